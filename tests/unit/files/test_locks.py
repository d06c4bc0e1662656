"""Locks between real processes: who holds them, who waits, and what a kill leaves."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import LockBusy
from tasks.core.files import locks
from tasks.core.files.locks import holders, locked, remove_lock
from tests.holding import holding


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "merge-0123"


def test_a_busy_lock_says_who_holds_it_and_since_when(lock: Path) -> None:
    with holding(lock, "rebuild demo: merge") as process:
        with pytest.raises(LockBusy) as caught, locked(lock, "another"):
            raise AssertionError("the lock is held by another process")
        (holder,) = holders(lock)
    assert (holder.what, holder.pid, holder.lock) == ("rebuild demo: merge", process.pid, lock.name)
    assert caught.value.found == f"held by {holder}"
    assert f"rebuild demo: merge (pid {process.pid} on " in str(holder)
    assert f"{holder.since.astimezone():%F %T}" in str(holder)


def test_a_killed_holder_is_not_shown_and_its_lock_is_free(lock: Path) -> None:
    with holding(lock, "rebuild demo"):
        pass
    assert list(lock.parent.glob(f"{lock.name}@*")) != []
    assert holders(lock) == []
    with locked(lock, "another"):
        assert [holder.what for holder in holders(lock)] == ["another"]
    assert [path.name for path in lock.parent.iterdir()] == [lock.name]


def test_whoever_takes_the_lock_next_removes_what_a_killed_holder_has_left(lock: Path) -> None:
    with holding(lock, "gateway"):
        pass
    with locked(lock, "another"):
        assert len(list(lock.parent.glob(f"{lock.name}@*"))) == 1
    assert [path.name for path in lock.parent.iterdir()] == [lock.name]


def test_a_lock_that_is_removed_takes_along_what_a_killed_holder_has_left(lock: Path) -> None:
    with holding(lock, "gateway"):
        pass
    remove_lock(lock)
    assert list(lock.parent.iterdir()) == []


_BECOMES_ANOTHER = """
import os, sys
from pathlib import Path
from tasks.core.files.locks import hold_for_life
hold_for_life(Path(sys.argv[1]), "deployment demo", shared=True)
os.execv("/bin/sh", ["sh", "-c", "echo started; exec cat > /dev/null"])
"""


def test_a_lock_for_life_is_held_by_the_program_that_its_process_becomes(lock: Path) -> None:
    argv = [sys.executable, "-c", _BECOMES_ANOTHER, str(lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert [(each.what, each.pid) for each in holders(lock)] == [
            ("deployment demo", process.pid)
        ]
        with pytest.raises(LockBusy, match="deployment demo"), locked(lock, "another"):
            raise AssertionError("the program holds the lock")
        process.kill()
    assert holders(lock) == []
    with locked(lock, "another"):
        pass


def test_everyone_who_shares_a_lock_is_shown(lock: Path) -> None:
    with (
        holding(lock, "rebuild one", shared=True),
        holding(lock, "rebuild two", shared=True),
        pytest.raises(LockBusy, match=r"rebuild one.*; rebuild two"),
        locked(lock, "prune"),
    ):
        raise AssertionError("two others share the lock")


def test_whoever_waits_is_told_for_whom_and_told_again(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_SAY_AFTER_S", 0.0)
    monkeypatch.setattr(locks, "_SAY_EVERY_S", 0.0)
    said: list[str] = []
    with holding(lock, "rebuild demo: merge") as process:

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 3:
                process.kill()
                process.wait()

        with locked(lock, "another", wait_s=200, say=say):
            assert len(said) >= 3
    assert said[0].startswith(f"Waiting for {lock.name}, held by rebuild demo: merge (pid ")


def test_a_lock_that_is_free_at_once_is_taken_without_a_word(lock: Path) -> None:
    said: list[str] = []
    with locked(lock, "another", wait_s=200, say=said.append):
        assert said == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting(lock: Path, number: signal.Signals) -> None:
    with locked(lock, "rebuild demo"), holding(lock, "another") as waiting:
        waiting.send_signal(number)
        _, error = waiting.communicate(timeout=200)
        assert f"stopped by {number.name}" in error
        assert [holder.what for holder in holders(lock)] == ["rebuild demo"]


def test_a_full_disk_takes_the_name_of_the_holder_but_not_the_lock(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with locked(lock, "store prune"):
        assert [path.name for path in lock.parent.iterdir()] == [lock.name]
        with pytest.raises(LockBusy, match="an unknown process"), locked(lock, "another"):
            pass


def test_a_text_that_nobody_holds_is_not_believed_and_is_removed(lock: Path) -> None:
    with locked(lock, "rebuild demo"):
        (file,) = lock.parent.glob(f"{lock.name}@*")
        text = file.read_bytes()
    file.write_bytes(text)
    assert holders(lock) == []
    assert not file.exists()


def test_a_broken_text_of_a_holder_is_no_holder_and_stays(lock: Path) -> None:
    with locked(lock, "rebuild demo"):
        (file,) = lock.parent.glob(f"{lock.name}@*")
        file.write_text("{")
        assert holders(lock) == []
        assert file.exists()


def test_a_text_that_cannot_be_removed_fails_neither_the_work_nor_the_look(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    with locked(lock, "rebuild demo"):
        pass
    assert list(lock.parent.glob(f"{lock.name}@*")) != []
    assert holders(lock) == []
    with locked(lock, "another"):
        assert [holder.what for holder in holders(lock)] == ["another"]
