"""Files on their way to another machine, without a store."""

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


def test_a_transfer_that_is_stopped_leaves_no_file_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "weights").write_bytes(b"weights")
    place = StorageDirectory.open(str(tmp_path / "shared"))
    stop, digest = Event(), digest_of(tmp_path / "weights")
    sent = FilePair(tmp_path / "weights", "files/weights", digest)
    Transfer(place, stop=stop).send([sent], proved=frozenset())
    stop.set()
    fetched = FilePair(tmp_path / "fetched", "files/weights", digest)
    with pytest.raises(TransferStopped):
        Transfer(place, stop=stop).receive([fetched], here={})
    assert not fetched.local.exists()
