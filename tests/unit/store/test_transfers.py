"""Files on their way to another machine, without a store."""

from pathlib import Path
from threading import Event

import pytest

from tasks.core.files.digests import digest_of
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store.transfers import FilePair, Transfer, TransferStopped


def test_a_transfer_that_is_stopped_leaves_no_file_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "a").write_bytes(b"a" * 1000)
    there = StorageDirectory.open(f"file://{tmp_path}/there")
    pair = FilePair(tmp_path / "a", "files/a", digest_of(tmp_path / "a"))
    stop = Event()
    Transfer(there, stop=stop).send([pair], proved=frozenset())
    stop.set()
    fetched = FilePair(tmp_path / "fetched", "files/a", pair.digest)
    with pytest.raises(TransferStopped):
        Transfer(there, stop=stop).receive([fetched], here={})
    assert not fetched.local.exists()
    with pytest.raises(TransferStopped):
        Transfer(there, stop=stop).send([pair], proved=frozenset())
