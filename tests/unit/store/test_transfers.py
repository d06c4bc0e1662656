"""Files on their way to another machine, without a store."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from tasks.core.errors import CorruptRemote, StorageUnavailable
from tasks.core.files.digests import digest_of
from tasks.core.files.temporary import TEMPORARY
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


# --- what moves, and how often ----------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> StorageDirectory:
    (tmp_path / "shared").mkdir()
    return StorageDirectory.open(str(tmp_path / "shared"))


def pair_of(tmp_path: Path, name: str, content: bytes) -> FilePair:
    """A file of this machine and where it belongs at the place."""
    (tmp_path / name).write_bytes(content)
    return FilePair(tmp_path / name, f"files/{name}", digest_of(tmp_path / name))


def sent_and_gone(place: StorageDirectory, pair: FilePair) -> FilePair:
    """The same file, which only the place has."""
    Transfer(place).send([pair], proved=frozenset())
    pair.local.unlink()
    return pair


def test_bytes_are_counted_once_also_where_a_file_is_tried_again(
    tmp_path: Path, place: StorageDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.store.transfers.THREADS", 1)
    pairs = [pair_of(tmp_path, name, b"weights") for name in ("one", "two")]
    seen: list[tuple[int, int]] = []
    Transfer(place, lambda *amounts: seen.append(amounts)).send(pairs, proved=frozenset())
    assert seen == [(7, 14), (14, 14)]
    parts, broken = StorageDirectory.parts, []

    def breaks(self: StorageDirectory, path: str, size: int, start: int = 0) -> Iterator[bytes]:
        for part in parts(self, path, size, start):
            if path.endswith("two") and not broken:
                yield part[:3]
                broken.append(path)
                raise StorageUnavailable("The connection broke.")
            yield part

    monkeypatch.setattr(StorageDirectory, "parts", breaks)
    for pair in pairs:
        pair.local.unlink()
    seen.clear()
    Transfer(place, lambda *amounts: seen.append(amounts)).receive(pairs, here={})
    assert broken
    assert seen[-1] == (14, 14)


def test_only_what_is_missing_needs_room(
    tmp_path: Path, place: StorageDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [pair_of(tmp_path, name, name.encode()) for name in ("got", "linked", "missing")]
    Transfer(place).send(pairs, proved=frozenset())
    pairs[1].local.rename(tmp_path / "elsewhere")
    pairs[2].local.unlink()
    needed: list[int] = []
    monkeypatch.setattr(
        "tasks.core.store.transfers.require_disk_space",
        lambda path, needed_bytes: needed.append(needed_bytes),
    )
    here = {pairs[0].digest.sha256: pairs[0].local, pairs[1].digest.sha256: tmp_path / "elsewhere"}
    Transfer(place).receive(pairs, here=here)
    assert needed == [len("missing")]
    assert all(digest_of(pair.local) == pair.digest for pair in pairs)


def test_a_file_that_was_here_and_is_freed_meanwhile_is_fetched(
    tmp_path: Path, place: StorageDirectory
) -> None:
    pair = sent_and_gone(place, pair_of(tmp_path, "weights", b"weights"))
    Transfer(place).receive([pair], here={pair.digest.sha256: tmp_path / "freed"})
    assert pair.local.read_bytes() == b"weights"


def test_of_a_file_that_has_come_in_part_only_the_rest_is_fetched(
    tmp_path: Path, place: StorageDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = sent_and_gone(place, pair_of(tmp_path, "weights", b"weights"))
    pair.local.with_name(TEMPORARY + pair.local.name).write_bytes(b"weig")
    starts: list[int] = []
    parts = StorageDirectory.parts
    monkeypatch.setattr(
        StorageDirectory,
        "parts",
        lambda self, path, size, start: starts.append(start) or parts(self, path, size, start),
    )
    Transfer(place).receive([pair], here={})
    assert starts == [4]
    assert pair.local.read_bytes() == b"weights"


def test_what_comes_changed_is_asked_for_twice_and_what_arrives_changed_sent_twice(
    tmp_path: Path, place: StorageDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_of(tmp_path, "weights", b"weights")
    place.replace(pair.remote, b"Weights")
    calls: list[str] = []

    def changed(self: StorageDirectory, path: str, size: int, start: int = 0) -> Iterator[bytes]:
        calls.append("read")
        yield b"Weights"

    monkeypatch.setattr(StorageDirectory, "send", lambda *_: calls.append("sent"))
    monkeypatch.setattr(StorageDirectory, "parts", changed)
    with pytest.raises(CorruptRemote):
        Transfer(place).send([pair], proved=frozenset())
    assert calls.count("sent") == 2
    pair.local.unlink()
    calls.clear()
    with pytest.raises(CorruptRemote):
        Transfer(place).receive([pair], here={})
    assert calls == ["read"] * 3  # twice to fetch it, and once to tell what is there


def test_a_transfer_that_is_stopped_while_it_waits_is_not_tried_again(
    tmp_path: Path, place: StorageDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedMeanwhile(Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return True

    def away(self: StorageDirectory, *_: object) -> None:
        tries.append(1)
        raise StorageUnavailable("The remote store cannot be reached.")

    tries: list[int] = []
    monkeypatch.setattr(StorageDirectory, "send", away)
    pair = pair_of(tmp_path, "weights", b"weights")
    with pytest.raises(TransferStopped):
        Transfer(place, stop=StoppedMeanwhile()).send([pair], proved=frozenset())
    assert len(tries) == 1
