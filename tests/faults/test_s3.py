"""A remote store on S3 that is busy, fails, says nothing, cuts off or changes bytes.

What passes by itself is waited for. What stays is told, costs nothing that is finished, and the
next run goes on.
"""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from tasks.core.errors import CorruptRemote, StorageRefused, StorageUnavailable
from tasks.core.keys import stage_key
from tasks.core.store import RemoteStore, Staging, Store
from tasks.explain import explained
from tests.faults.s3_faults import (
    Answer,
    Cut,
    Fault,
    OtherBytes,
    S3Faults,
    Shorter,
    Silence,
    faulty_s3,
)
from tests.s3_server import make_bucket, use

pytestmark = pytest.mark.slow

KEY = stage_key("merge", 1, {})
_FILE = "/files/"
_SILENCE = Silence(threading.Event())
PASSES = {
    "503 SlowDown": Answer(503, "SlowDown"),
    "500 InternalError": Answer(500, "InternalError"),
    "no answer": _SILENCE,
    "cut off": Cut(5_000),
    "fewer bytes": Shorter(5_000),
    "other bytes": OtherBytes(),
}
STAYS = {
    name: PASSES[name] for name in ("503 SlowDown", "500 InternalError", "no answer", "cut off")
}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, S3Faults]]:
    with faulty_s3() as found:
        yield found
        _SILENCE.end.set()


@pytest.fixture
def faults(server: tuple[str, S3Faults]) -> Iterator[S3Faults]:
    yield server[1]
    server[1].plans.clear()


@pytest.fixture
def remote(server: tuple[str, S3Faults], monkeypatch: pytest.MonkeyPatch) -> RemoteStore:
    """A prefix of a bucket of the test's own; its client is patient for less long than usual."""
    monkeypatch.setattr(S3FileSystem, "read_timeout", 1)
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setattr("tasks.core.store.transfers.WAITS_S", (0.0, 0.0))
    monkeypatch.setattr("tasks.core.storage.directory.ANSWERS_WITHIN_S", 5.0)
    address, _ = server
    use(monkeypatch, address)
    bucket = f"kawan-{uuid.uuid4().hex}"
    make_bucket(address, bucket)
    return RemoteStore.open(f"s3://{bucket}/artifacts")


def write(staging: Staging) -> None:
    for number in range(3):
        (staging.path / f"shard-{number}").write_bytes(bytes([number]) * 20_000)


def never(_: Staging) -> None:
    raise AssertionError("it is made twice")


def store(home: Path, remote: RemoteStore) -> Store:
    return Store(home, say=lambda _: None, remote=remote)


def require_whole(home: Path) -> None:
    assert Store(home).verify() == {str(KEY): []}


@pytest.mark.parametrize("fault", PASSES.values(), ids=PASSES)
def test_a_fetch_goes_on_after_what_passes(
    fault: Fault, remote: RemoteStore, faults: S3Faults, tmp_path: Path
) -> None:
    store(tmp_path / "one", remote).build(KEY, write)
    faults.add(fault, "GET", _FILE, times=1)
    assert store(tmp_path / "two", remote).build(KEY, never).cached
    require_whole(tmp_path / "two")


@pytest.mark.parametrize("fault", STAYS.values(), ids=STAYS)
def test_a_fetch_that_finds_no_way_is_told_and_the_next_run_goes_on(
    fault: Fault, remote: RemoteStore, faults: S3Faults, tmp_path: Path
) -> None:
    store(tmp_path / "one", remote).build(KEY, write)
    faults.add(fault, "GET", _FILE)
    with pytest.raises(StorageUnavailable) as told:
        store(tmp_path / "two", remote).build(KEY, never)
    _require_told(told.value, remote)
    faults.plans.clear()
    assert store(tmp_path / "two", remote).build(KEY, never).cached
    require_whole(tmp_path / "two")


@pytest.mark.parametrize(
    "fault", [Shorter(5_000), OtherBytes()], ids=["fewer bytes", "other bytes"]
)
def test_a_broken_artifact_is_made_here_and_replaced_there(
    fault: Fault, remote: RemoteStore, faults: S3Faults, tmp_path: Path
) -> None:
    store(tmp_path / "one", remote).build(KEY, write)
    faults.add(fault, "GET", _FILE)
    said: list[str] = []
    with pytest.raises(CorruptRemote, match="other bytes than were sent"):
        Store(tmp_path / "two", say=said.append, remote=remote).build(KEY, write)
    assert any("is broken" in line for line in said)
    require_whole(tmp_path / "two")
    faults.plans.clear()
    assert store(tmp_path / "two", remote).build(KEY, never).cached
    assert store(tmp_path / "three", remote).build(KEY, never).cached
    require_whole(tmp_path / "three")


@pytest.mark.parametrize(
    "fault",
    [PASSES[name] for name in ("503 SlowDown", "500 InternalError", "no answer", "other bytes")],
    ids=["503 SlowDown", "500 InternalError", "no answer", "other bytes"],
)
def test_a_push_goes_on_after_what_passes(
    fault: Fault, remote: RemoteStore, faults: S3Faults, tmp_path: Path
) -> None:
    faults.add(fault, "PUT", _FILE, times=1)
    store(tmp_path / "one", remote).build(KEY, write)
    assert store(tmp_path / "two", remote).build(KEY, never).cached
    require_whole(tmp_path / "two")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Answer(503, "SlowDown"), StorageUnavailable),
        (Answer(500, "InternalError"), StorageUnavailable),
        (_SILENCE, StorageUnavailable),
        (Answer(403, "AccessDenied"), StorageRefused),
        (OtherBytes(), CorruptRemote),
    ],
    ids=["503 SlowDown", "500 InternalError", "no answer", "403 AccessDenied", "other bytes"],
)
def test_a_push_that_finds_no_way_costs_nothing_that_is_finished(
    fault: Fault, kind: type[Exception], remote: RemoteStore, faults: S3Faults, tmp_path: Path
) -> None:
    faults.add(fault, "PUT", _FILE)
    with pytest.raises(kind) as told:
        store(tmp_path / "one", remote).build(KEY, write)
    _require_told(told.value, remote)
    require_whole(tmp_path / "one")
    assert remote.find(str(KEY)) is None, "others see half of it"
    faults.plans.clear()
    assert store(tmp_path / "one", remote).build(KEY, never).cached
    assert store(tmp_path / "two", remote).build(KEY, never).cached
    require_whole(tmp_path / "two")


def _require_told(error: Exception, remote: RemoteStore) -> None:
    known = explained(error)
    assert known is not None
    assert remote.url in str(known.where)
    assert known.next_step
    assert "sesame" not in str(known)
