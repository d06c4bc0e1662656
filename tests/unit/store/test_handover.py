"""Unfinished work handed over: what one machine has kept remotely, another goes on with."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.core.errors import DiskFull, StorageUnavailable
from tasks.core.keys import stage_key
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import RemoteStore, Staging, Store
from tasks.core.store.handover import Handover
from tests.unit.store.conftest import Machine

KEY = stage_key("finetune", 1, {})
FOLDER = f"staging/{KEY}"


class Lost(Exception):
    """The machine is lost: nothing of this process goes on."""


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.store.handover.POLL_S", 0.02)


def latest(path: Path) -> list[Path]:
    """The newest step that is whole: it has its marker."""
    whole = sorted(path.glob("step-*/whole"))
    return [path / "identity", whole[-1].parent] if whole else []


def step(path: Path, number: int) -> None:
    (path / "identity").write_text("the same training")
    directory = path / f"step-{number}"
    directory.mkdir(parents=True)
    (directory / "states").write_bytes(bytes([number]) * 200_000)
    (directory / "common").write_bytes(b"of every step")
    (directory / "whole").touch()


def until(true: Callable[[], object]) -> None:
    while not true():
        time.sleep(0.01)


@contextmanager
def lost_machine(store: Store, steps: int) -> Iterator[None]:
    """Work so many steps, each of which arrives, and be lost."""

    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: latest(staging.path)):
            for number in range(1, steps + 1):
                step(staging.path, number)
                name = f"step-{number}".encode()
                until(lambda name=name: name in (store_place.find(f"{FOLDER}/state.json") or b""))
            raise KeyboardInterrupt

    assert store._sharing is not None
    store_place = store._sharing.remote.place
    with pytest.raises(KeyboardInterrupt):
        store.build(KEY, write)
    yield


def goes_on_from(store: Store) -> list[str]:
    """Finish the work, and return the steps that were there when it began."""
    found: list[str] = []

    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: latest(staging.path)):
            found.extend(path.name for path in sorted(staging.path.glob("step-*")))
            for path in staging.path.glob("step-*/states"):
                assert path.read_bytes() == bytes([int(path.parent.name[-1])]) * 200_000

    store.build(KEY, write)
    return found


@pytest.mark.parametrize("kind", ["truncated", "missing"])
def test_a_broken_state_is_told_of_and_the_work_begins(
    machine: Machine, url: str, said: list[str], kind: str
) -> None:
    place = StorageDirectory.open(url)
    with lost_machine(machine("first"), 1):
        name = max(place.files(f"{FOLDER}/files").items(), key=lambda item: item[1])[0]
        if kind == "missing":
            place.remove(f"{FOLDER}/files/{name}")
        else:
            place.replace(f"{FOLDER}/files/{name}", b"short")
    assert goes_on_from(machine("second")) == []
    assert any("cannot be resumed" in line for line in said)


@pytest.mark.parametrize("content", [b"", b"garbage", b'{"paths": ["../x"], "files": {}}'])
def test_a_garbage_state_counts_as_none(machine: Machine, url: str, content: bytes) -> None:
    StorageDirectory.open(url).replace(f"{FOLDER}/state.json", content)
    assert goes_on_from(machine("first")) == []


A_FILE = f'{{"size_bytes": 1, "sha256": "{hashlib.sha256(b"a").hexdigest()}"}}'


@pytest.mark.parametrize(
    ("paths", "file"),
    [
        ('["step-1"]', None),
        ('["identity", "step-1"]', "identity"),
        ('["step-1"]', "step-10/states"),
        ('["step-1", "step-1/states"]', "step-1/states"),
        ('["identity", "identity"]', "identity"),
    ],
)
def test_a_state_whose_names_contradict_each_other_is_left_and_the_work_begins(
    machine: Machine, url: str, paths: str, file: str | None
) -> None:
    files = f'{{"{file}": {A_FILE}}}' if file else "{}"
    place = StorageDirectory.open(url)
    place.replace(f"{FOLDER}/files/{hashlib.sha256(b'a').hexdigest()}", b"a")
    place.replace(f"{FOLDER}/state.json", f'{{"paths": {paths}, "files": {files}}}'.encode())
    built: list[Path] = []

    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: latest(staging.path)):
            built.append(staging.path)

    machine("first").build(KEY, write)
    assert len(built) == 1
    assert not list(built[0].parent.glob("*.handed"))


def test_the_work_goes_on_while_the_remote_store_cannot_be_reached(
    machine: Machine, url: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = StorageDirectory.open(url)
    send, away = StorageDirectory.send, threading.Event()
    away.set()

    def refused(self: StorageDirectory, *args: object) -> None:
        if away.is_set():
            raise StorageUnavailable("The remote store cannot be reached.")
        send(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(StorageDirectory, "send", refused)

    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: latest(staging.path)):
            step(staging.path, 1)
            until(lambda: any("cannot be kept" in line for line in said))
            away.clear()
            until(lambda: place.find(f"{FOLDER}/state.json"))
            raise Lost

    with pytest.raises(Lost):
        machine("first").build(KEY, write)
    assert sum("cannot be kept" in line for line in said) == 1


def test_nothing_that_a_storage_raises_takes_the_place_of_the_works_own_failure(
    machine: Machine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: StorageDirectory, *args: object) -> None:
        raise RuntimeError("Loop is not running")

    monkeypatch.setattr(StorageDirectory, "send", broken)

    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: latest(staging.path)):
            step(staging.path, 1)
            raise Lost

    with pytest.raises(Lost):
        machine("first").build(KEY, write)
    assert any("Loop is not running" in line for line in said)


def test_a_state_that_finds_no_room_here_is_not_given_up(
    machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, needed_bytes: int) -> None:
        raise DiskFull("There is not enough space on the disk.")

    with lost_machine(machine("first"), steps=1):
        pass
    with monkeypatch.context() as patch:
        patch.setattr("tasks.core.store.transfers.require_disk_space", full)
        with pytest.raises(DiskFull):
            goes_on_from(machine("second"))
    assert goes_on_from(machine("second")) == ["step-1"]


def test_another_machine_goes_on_from_the_latest_state(machine: Machine, url: str) -> None:
    with lost_machine(machine("first"), 3):
        kept = StorageDirectory.open(url).files(f"{FOLDER}/files")
    assert len(kept) == 4  # identity, marker, the common file, and the states of the last step only
    assert goes_on_from(machine("second")) == ["step-3"]


def test_a_failure_hands_over_its_last_state(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.store.handover.POLL_S", 3600.0)

    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: latest(staging.path)):
            step(staging.path, 1)
            raise Lost

    with pytest.raises(Lost):
        machine("first").build(KEY, write)
    assert goes_on_from(machine("second")) == ["step-1"]


def test_what_is_here_goes_before_what_is_there(machine: Machine) -> None:
    with lost_machine(machine("first"), 2):
        pass

    def write(staging: Staging) -> None:
        step(staging.path, 1)
        with staging.handed_over(lambda: latest(staging.path)):
            assert [path.name for path in staging.path.glob("step-*")] == ["step-1"]

    machine("second").build(KEY, write)


def test_nothing_stays_there_once_the_work_is_finished(machine: Machine, url: str) -> None:
    with lost_machine(machine("first"), 2):
        pass
    goes_on_from(machine("second"))
    assert StorageDirectory.open(url).files("staging") == {}
    assert [name for name, _ in RemoteStore.open(url).artifacts()] == [str(KEY)]


def test_no_state_is_looked_for_of_a_stage_that_hands_nothing_over(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Handover, "forget")
    assert not machine("first").build(KEY, lambda staging: step(staging.path, 1)).cached


def test_without_a_remote_store_nothing_is_handed_over(tmp_path: Path) -> None:
    assert goes_on_from(Store(tmp_path / "alone")) == []
