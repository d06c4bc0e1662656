"""The model of the disk: what it keeps for certain, what it may lose, and what it never does."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.power.cuts import put_down
from tests.power.disk import State, states
from tests.power.recorder import Recording, recorded


def _after(recording: Recording, moment: str) -> list[State]:
    """Return the states after a moment that was promised; the recording ends there."""
    return [s for s in states(recording, seed=1, at_random=20) if s.promised == {moment}]


def _contents(state: State) -> dict[str, bytes]:
    return {name: state.things[node].content for (_, name), node in state.names.items()}


def _tree(root: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def test_what_is_not_synced_may_be_lost_and_torn(disk):
    with recorded(disk) as recording:
        (disk / "file").write_bytes(b"content!")
        recording.promise("written")
    seen = [_contents(state).get("file") for state in _after(recording, "written")]
    assert {None, b"", b"content!", b"cont\0\0\0\0", bytes(8)} <= {*seen}


def test_bytes_and_name_are_synced_each_by_its_own(disk):
    with recorded(disk) as recording:
        with (disk / "file").open("wb") as file:
            file.write(b"content")
            file.flush()
            os.fsync(file.fileno())
        recording.promise("bytes")
        directory = os.open(disk, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        recording.promise("name")
    assert {_contents(s).get("file") for s in _after(recording, "bytes")} == {None, b"content"}
    assert {_contents(s).get("file") for s in _after(recording, "name")} == {b"content"}


def test_a_rename_is_made_as_a_whole_or_not_at_all(disk):
    (disk / "old").write_bytes(b"1")
    (disk / "there").mkdir()
    with recorded(disk) as recording:
        (disk / "old").rename(disk / "there" / "new")
        recording.promise("renamed")
    names = {frozenset(_contents(s)) - {"there"} for s in _after(recording, "renamed")}
    assert names == {frozenset({"old"}), frozenset({"new"})}


def test_changes_of_names_may_reach_the_disk_in_any_order(disk):
    (disk / "one").write_bytes(b"1")
    with recorded(disk) as recording:
        (disk / "one").unlink()
        (disk / "two").mkdir()
        recording.promise("done")
    seen = {frozenset(_contents(state)) for state in _after(recording, "done")}
    assert seen == {frozenset(names) for names in ((), ("one",), ("two",), ("one", "two"))}


def test_what_is_overwritten_in_place_may_be_old_or_new(disk):
    (disk / "file").write_bytes(b"AAAA")
    with recorded(disk) as recording:
        with (disk / "file").open("r+b") as file:
            file.write(b"BBBB")
        recording.promise("overwritten")
    seen = {_contents(state)["file"] for state in _after(recording, "overwritten")}
    assert seen == {b"AAAA", b"BBBB", b"BBAA"}


def test_a_state_that_has_lost_nothing_is_what_is_there(disk, tmp_path):
    """Also of what compiled code writes, of links, and of names that were taken back."""
    with recorded(disk) as recording:
        save_file({"w": np.ones(300)}, disk / "weights.safetensors")
        (disk / "a" / "b").mkdir(parents=True)
        (disk / "a" / "b" / "file").write_bytes(b"1")
        (disk / "second name").hardlink_to(disk / "a" / "b" / "file")
        (disk / "link").symlink_to("a/b")
        (disk / "a").rename(disk / "c")
        (disk / "gone").mkdir()
        (disk / "gone").rmdir()
        fd = os.open(disk / "placed", os.O_WRONLY | os.O_CREAT)
        os.pwrite(fd, b"later", 5)
        os.pwrite(fd, b"first", 0)
        os.close(fd)
        recording.promise("all")
    whole = [s for s in _after(recording, "all") if s.label.endswith("every name, new bytes")]
    put_down(whole[-1], tmp_path / "again")
    assert _tree(tmp_path / "again") == _tree(disk)
    assert (tmp_path / "again" / "second name").samefile(tmp_path / "again/c/b/file")


def test_a_sync_that_was_never_made_cannot_be_forgotten(disk):
    with recorded(disk) as recording:
        (disk / "file").write_bytes(b"1")
    with pytest.raises(LookupError, match="file was never synced"):
        recording.without("file")
