"""A handover without a store: which states it sends and when, and what it takes."""

import errno
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import StorageUnavailable
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import RemoteStore
from tasks.core.store.handover import Handover

FOLDER = "staging/finetune-1"
STATE = f"{FOLDER}/state.json"


class Lost(Exception):
    """The work fails."""


class Machine:
    """The unfinished work of one machine: its latest state is the last of its steps."""

    def __init__(self, home: Path, remote: RemoteStore, said: list[str]) -> None:
        self.directory = home / "finetune-1"
        self.directory.mkdir(parents=True)
        self.handover = Handover(remote, self.directory, said.append)
        self.looked = 0

    def step(self, number: int, within: str = ".") -> Path:
        written = self.directory / "being-written"
        (written / "optimizer").mkdir(parents=True)
        (written / "optimizer" / "states").write_text(f"states {number}")
        path = self.directory / within / f"step-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return written.rename(path)

    def latest(self) -> list[Path]:
        self.looked += 1
        return sorted(self.directory.rglob("step-*"))[-1:]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.store.handover.POLL_S", 0.02)


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStore:
    (tmp_path / "shared").mkdir()
    return RemoteStore.open(f"file://{tmp_path}/shared")


@pytest.fixture
def one(tmp_path: Path, remote: RemoteStore, said: list[str]) -> Machine:
    return Machine(tmp_path / "one", remote, said)


@pytest.fixture
def two(tmp_path: Path, remote: RemoteStore, said: list[str]) -> Machine:
    return Machine(tmp_path / "two", remote, said)


def until(true: Callable[[], object]) -> None:
    while not true():
        time.sleep(0.01)


def kept(remote: RemoteStore, step: Path) -> bool:
    return step.name.encode() in (remote.place.find(STATE) or b"")


def fail_with(one: Machine, step: int, within: str = ".") -> None:
    """Let the work make a step, fail, and hand it over."""
    with pytest.raises(Lost), one.handover.resumable(one.latest):
        one.step(step, within)
        raise Lost


def look_often(one: Machine) -> None:
    seen = one.looked
    until(lambda: one.looked > seen + 6)


# --- sending ------------------------------------------------------------------------------------


def test_a_state_is_sent_once_it_is_there_and_not_again(
    remote: RemoteStore, one: Machine, said: list[str]
) -> None:
    with one.handover.resumable(one.latest):
        look_often(one)
        for number in (1, 2):
            step = one.step(number)
            until(lambda step=step: kept(remote, step))
            look_often(one)
    where = f"{remote.url}/{FOLDER}"
    assert said == [f"step-1 is kept at {where}", f"step-2 is kept at {where}"]


def test_each_outage_is_told_once(
    remote: RemoteStore, one: Machine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send, away, failures = StorageDirectory.send, threading.Event(), []

    def refused(self: StorageDirectory, *args: object) -> None:
        if away.is_set():
            failures.append(args)
            raise StorageUnavailable("The remote store cannot be reached.")
        send(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(StorageDirectory, "send", refused)
    with one.handover.resumable(one.latest):
        for number in (1, 2):
            away.set()
            step = one.step(number)
            failures.clear()
            until(lambda: len(failures) > 12)  # each attempt tries four times
            away.clear()
            until(lambda step=step: kept(remote, step))
    assert [" cannot be kept" in line for line in said] == [True, False, True, False]


def test_work_that_fails_lets_a_transfer_under_way_end(
    one: Machine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send, begun, let_go = StorageDirectory.send, threading.Event(), threading.Event()
    sent: list[object] = []

    def slow(self: StorageDirectory, *args: object) -> None:
        sent.append(args)
        begun.set()
        let_go.wait()
        send(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(StorageDirectory, "send", slow)
    with pytest.raises(Lost), one.handover.resumable(one.latest):
        one.step(1)
        begun.wait()
        threading.Timer(0.3, let_go.set).start()
        raise Lost
    assert len(sent) == 1
    assert len(said) == 1


def test_once_the_work_is_interrupted_no_transfer_begins(
    remote: RemoteStore, one: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.store.handover.END_S", 0.0)
    looking, go_on = threading.Event(), threading.Event()
    before = set(threading.enumerate())

    def latest() -> list[Path]:
        if threading.current_thread() not in before:
            looking.set()
            go_on.wait()
        return one.latest()

    with pytest.raises(KeyboardInterrupt), one.handover.resumable(latest):
        (sender,) = set(threading.enumerate()) - before
        one.step(1)
        looking.wait()
        raise KeyboardInterrupt
    go_on.set()
    sender.join()
    assert remote.place.files("staging") == {}
    assert sender.daemon, "a transfer that hangs would keep the program from ending"


def test_of_a_state_that_is_forgotten_its_description_goes_first(
    one: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in between leaves files that nobody looks for, not a state without some of them."""
    fail_with(one, 1)
    removed: list[str] = []

    def killed(self: StorageDirectory, path: str) -> None:
        removed.append(path)
        raise StorageUnavailable("The remote store cannot be reached.")

    monkeypatch.setattr(StorageDirectory, "remove", killed)
    one.handover.forget()
    assert removed == [STATE]


# --- taking -------------------------------------------------------------------------------------


def test_a_state_arrives_where_it_was_and_is_told_of_by_its_name(
    one: Machine, two: Machine, said: list[str]
) -> None:
    fail_with(one, 1, within="out/checkpoints")
    with two.handover.resumable(two.latest):
        found = two.directory / "out/checkpoints/step-1/optimizer/states"
        assert found.read_text() == "states 1"
    assert any("resuming from step-1 of another machine" in line for line in said)


def test_a_disk_that_fails_while_a_state_arrives_is_told_and_the_state_stays(
    one: Machine, two: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    fail_with(one, 1)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.core.store.handover.fsync_tree", failing)
        with pytest.raises(OSError, match="Input/output"), two.handover.resumable(two.latest):
            pass
    with two.handover.resumable(two.latest):
        assert [path.name for path in two.latest()] == ["step-1"]


@pytest.mark.parametrize(
    ("paths", "files"),
    [
        (["../step-1"], ["../step-1/states"]),
        (["step-1"], ["step-1/states", "../states"]),
        ([], ["states"]),
        ([], []),
    ],
)
def test_a_state_that_leaves_its_directory_or_names_nothing_is_not_taken(
    remote: RemoteStore, one: Machine, two: Machine, paths: list[str], files: list[str]
) -> None:
    fail_with(one, 1)
    ((sha256, size),) = remote.place.files(f"{FOLDER}/files").items()
    digest = {"size_bytes": size, "sha256": sha256}
    state = {"paths": paths, "files": dict.fromkeys(files, digest)}
    remote.place.replace(STATE, json.dumps(state).encode())
    with two.handover.resumable(two.latest):
        assert list(two.directory.parent.rglob("*")) == [two.directory]
