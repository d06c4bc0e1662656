from pathlib import Path
from threading import Event

import pytest

from tasks.core.files.digests import digest_of
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store.transfers import FilePair, Transfer, TransferStopped


def test_a_transfer_that_is_stopped_sends_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    stop = Event()
    stop.set()
    place = StorageDirectory.open(str(tmp_path / "shared"))
    pair = FilePair(file, "files/weights", digest_of(file))
    with pytest.raises(TransferStopped):
        Transfer(place, stop=stop).send([pair], proved=frozenset())
    assert list((tmp_path / "shared").rglob("weights")) == []
