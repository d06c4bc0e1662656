"""Transfers that are killed, interrupted or cut off: what is whole is not moved again."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.errors import StorageRefused, StorageUnavailable
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import RemoteStore, Staging, Store
from tasks.core.store.manifest import read_manifest
from tests.s3_server import reader_only, use
from tests.unit.store.killed_transfer import KEY, write


def fail(_: Staging) -> None:
    raise AssertionError("it was built although it was finished")


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        found: str = request.getfixturevalue("s3_url")
        return found
    (tmp_path / "shared").mkdir()
    return f"file://{tmp_path}/shared"


def killed(url: str, home: Path, at: str, times: int) -> None:
    """Build or fetch in another process, killed at so many calls of a method of the directory."""
    words = ("-m", "tests.unit.store.killed_transfer", url, str(home), at, str(times))
    child = subprocess.run([sys.executable, *words], check=False)
    assert child.returncode == -signal.SIGKILL


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are sent from now on."""
    names: list[str] = []
    before = StorageDirectory.send

    def send(
        self: StorageDirectory, source: Path, path: str, tick: Callable[[int], None] | None = None
    ) -> None:
        names.append(source.name)
        before(self, source, path, tick)

    monkeypatch.setattr(StorageDirectory, "send", send)
    return names


def test_killed_between_two_files_nothing_is_there_and_the_rest_is_sent(
    url: str, tmp_path: Path, sent: list[str]
) -> None:
    killed(url, tmp_path / "first", "send", 3)
    remote = RemoteStore.open(url)
    assert remote.find(str(KEY)) is None
    store = Store(tmp_path / "first", remote=remote)
    assert store.build(KEY, fail).cached
    assert len(sent) == 3
    second = Store(tmp_path / "second", remote=remote)
    assert second.build(KEY, fail).cached
    assert second.verify() == {str(KEY): []}


def test_killed_before_the_manifest_nothing_is_there_and_only_it_is_written(
    url: str, tmp_path: Path, sent: list[str]
) -> None:
    killed(url, tmp_path / "first", "create", 0)
    remote = RemoteStore.open(url)
    assert remote.find(str(KEY)) is None
    assert Store(tmp_path / "first", remote=remote).build(KEY, fail).cached
    assert sent == []
    assert remote.find(str(KEY)) is not None


def test_a_killed_fetch_leaves_no_artifact_and_goes_on_with_the_next_file(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteStore.open(url)
    Store(tmp_path / "first", remote=remote).build(KEY, write)
    killed(url, tmp_path / "second", "parts", 4)
    second = Store(tmp_path / "second", remote=remote)
    assert second.find(KEY) is None
    asked: list[str] = []
    parts = StorageDirectory.parts

    def counted(self: StorageDirectory, path: str, size: int, start: int = 0) -> Iterator[bytes]:
        asked.append(path)
        return parts(self, path, size, start)

    monkeypatch.setattr(StorageDirectory, "parts", counted)
    assert second.build(KEY, fail).cached
    assert len(asked) == 2
    assert second.verify() == {str(KEY): []}


def test_an_interrupt_ends_the_transfer_and_keeps_what_is_finished(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruptible: None
) -> None:
    remote, stuck, first = RemoteStore.open(url), threading.Event(), threading.Lock()

    def hang(*_: object) -> None:
        if first.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGINT)
        stuck.wait()

    with monkeypatch.context() as patch:
        patch.setattr(StorageDirectory, "send", hang)
        patch.setattr("tasks.core.system.threads.GRACE_S", 0.2)
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path / "first", remote=remote).build(KEY, write)
    stuck.set()
    assert read_manifest(tmp_path / "first" / "store" / str(KEY)) is not None
    assert Store(tmp_path / "first", remote=remote).build(KEY, fail).cached
    assert remote.find(str(KEY)) is not None


@pytest.mark.slow
def test_a_network_that_fails_costs_no_finished_work(
    s3_url: str, s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound, and never listening: refuses
        taken.bind(("127.0.0.1", 0))
        use(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}")
        remote = RemoteStore.open(s3_url)
        with pytest.raises(StorageUnavailable) as unreachable:
            Store(tmp_path / "first", remote=remote).build(KEY, fail)
        assert unreachable.value.retryable
        Store(tmp_path / "first").build(KEY, write)
        with pytest.raises(StorageUnavailable, match="finished on this machine") as unpushed:
            Store(tmp_path / "first", remote=remote).build(KEY, fail)
        assert "store push" in (unpushed.value.next_step or "")
    use(monkeypatch, s3_address)
    assert Store(tmp_path / "first", remote=RemoteStore.open(s3_url)).build(KEY, fail).cached
    assert Store(tmp_path / "second", remote=RemoteStore.open(s3_url)).build(KEY, fail).cached


def test_a_connection_that_breaks_in_the_middle_is_taken_up_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, failures = RemoteStore.open(url), iter([2, 1])
    before = StorageDirectory.parts

    def breaks(self: StorageDirectory, path: str, size: int, start: int = 0) -> Iterator[bytes]:
        for part in before(self, path, size, start):
            if next(failures, 0):
                yield part[: len(part) // 2]
                raise StorageUnavailable("The connection broke.")
            yield part

    Store(tmp_path / "first", remote=remote).build(KEY, write)
    monkeypatch.setattr(StorageDirectory, "parts", breaks)
    second = Store(tmp_path / "second", remote=remote)
    assert second.build(KEY, fail).cached
    assert second.verify() == {str(KEY): []}


def test_a_bucket_that_may_only_be_read_is_told_before_the_work(
    s3_url: str, s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader_only(s3_address) as keys:
        use(monkeypatch, s3_address, keys)
        remote = RemoteStore.open(s3_url)
        assert remote.find(str(KEY)) is None
        with pytest.raises(StorageRefused, match="do not permit this"):
            remote.require_usable()


def test_wrong_keys_are_told_and_never_shown(
    s3_url: str, s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader_only(s3_address) as keys:
        use(monkeypatch, s3_address, {**keys, "AWS_SECRET_ACCESS_KEY": "sesame"})
        with pytest.raises(StorageRefused) as refused:
            RemoteStore.open(s3_url).require_usable()
    assert "sesame" not in str(refused.value)
