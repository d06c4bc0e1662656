"""Releases of one machine that another one has to know: to compare, to serve, to keep."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.errors import StorageUnavailable
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import RemoteStore, RunStore
from tasks.core.store.releases import take_releases
from tasks.core.store.run_record import OpenRun
from tasks.core.store.runs import RunRecords
from tasks.core.store.seals import Seals
from tests.signing_keys import make_pair


@pytest.fixture
def remote(url: str) -> RemoteStore:
    return RemoteStore.open(url)


def released(home: Path, remote: RemoteStore, artifact: str, forced: str | None = None) -> OpenRun:
    run = RunRecords(home).start("demo", reach=10)
    run.add("download-of-this-machine")
    store = RunStore(home, run, remote=remote)
    store.release(artifact, forced)
    store.finish()
    return run


@pytest.fixture
def out_of_reach() -> RemoteStore:
    """A remote store that raises what one behind a broken network does."""
    return RemoteStore(StorageDirectory("s3://bucket", "a test", OutOfReach(), "bucket"))


class OutOfReach:
    """A filesystem whose every call fails."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        def fail(*_: object, **__: object) -> object:
            raise ConnectionError("no route to host")

        return fail


def test_out_of_reach_what_is_on_record_here_counts(
    tmp_path: Path, remote: RemoteStore, out_of_reach: RemoteStore, caplog: pytest.LogCaptureFixture
) -> None:
    released(tmp_path / "one", remote, "fuse-a")
    records = RunRecords(tmp_path / "one")
    take_releases(out_of_reach, records, "demo")
    assert records.releases("demo") == ["fuse-a"]
    assert "not known now: The storage cannot be reached." in caplog.text


def test_out_of_reach_a_new_release_fails_and_one_that_is_known_does_not(
    tmp_path: Path, remote: RemoteStore, out_of_reach: RemoteStore
) -> None:
    for artifact in ("fuse-a", "fuse-b"):
        released(tmp_path / "one", remote, artifact)
    released(tmp_path / "one", out_of_reach, "fuse-b")
    with pytest.raises(StorageUnavailable):
        released(tmp_path / "one", out_of_reach, "fuse-c")
    assert RunRecords(tmp_path / "one").releases("demo")[0] == "fuse-c", "it is out all the same"


def test_release_is_known_on_another_machine_as_nothing_but_that(
    tmp_path: Path, remote: RemoteStore
) -> None:
    run = released(tmp_path / "one", remote, "fuse-a", forced="it is urgent")
    other = RunRecords(tmp_path / "other")
    for _ in range(2):
        take_releases(remote, other, "demo")
        (record,) = other.all()
        assert record.artifacts == ("fuse-a",)
        assert (record.released, record.forced) == ("fuse-a", "it is urgent")
        assert record.released_at == run.record.released_at
        assert other.releases("demo") == ["fuse-a"]
    assert other.unfinished() == []


def test_last_release_counts_whichever_machine_has_made_it(
    tmp_path: Path, remote: RemoteStore
) -> None:
    released(tmp_path / "one", remote, "fuse-a")
    released(tmp_path / "other", remote, "fuse-b")
    released(tmp_path / "one", remote, "fuse-c")
    records = RunRecords(tmp_path / "other")
    take_releases(remote, records, "demo")
    assert records.releases("demo") == ["fuse-c", "fuse-b", "fuse-a"]
    assert records.release_before("demo", "fuse-c") == "fuse-b"


def test_a_schedule_that_releases_the_same_again_and_again_is_told_once(
    tmp_path: Path, remote: RemoteStore
) -> None:
    for artifact in (*["fuse-a"] * 5, *["fuse-b"] * 5, *["fuse-a"] * 5):
        records = RunRecords(tmp_path / "one")
        told = take_releases(remote, records, "demo")
        released(tmp_path / "one", remote, artifact)
    assert told is not None
    assert len(told) == 3
    other = RunRecords(tmp_path / "other")
    take_releases(remote, other, "demo")
    assert other.releases("demo") == ["fuse-a", "fuse-b"]


def test_the_last_release_is_not_that_of_the_run_that_ended_last(
    tmp_path: Path, remote: RemoteStore
) -> None:
    home = tmp_path / "one"
    slow = RunStore(home, RunRecords(home).start("demo"), remote=remote)
    slow.release("fuse-a")
    released(tmp_path / "other", remote, "fuse-b")
    slow.finish()
    take_releases(remote, RunRecords(home), "demo")
    released(home, remote, "fuse-b")
    assert len(take_releases(remote, RunRecords(home), "demo") or ()) == 2


def test_the_same_model_is_told_again_where_more_is_said_of_it(
    tmp_path: Path, remote: RemoteStore
) -> None:
    home, seals = tmp_path / "one", Seals(make_pair(tmp_path / "keys").key)
    signing = replace(remote, seals=seals)
    told = []
    for forced, place in [
        (None, remote),
        ("urgent", remote),
        (None, remote),
        *[(None, signing)] * 2,
    ]:
        released(home, place, "fuse-a", forced)
        told.append(len(take_releases(remote, RunRecords(home), "demo") or ()))
    assert told == [1, 2, 3, 4, 4]


def test_a_release_that_could_not_be_told_is_told_by_the_next_run(
    tmp_path: Path, remote: RemoteStore, out_of_reach: RemoteStore
) -> None:
    with pytest.raises(StorageUnavailable):
        released(tmp_path / "one", out_of_reach, "fuse-a")
    released(tmp_path / "one", remote, "fuse-a")
    assert take_releases(remote, RunRecords(tmp_path / "one"), "demo")


def test_own_record_is_not_replaced_by_what_was_told_of_it(
    tmp_path: Path, remote: RemoteStore
) -> None:
    run = released(tmp_path / "one", remote, "fuse-a")
    before = run.path.read_bytes()
    take_releases(remote, RunRecords(tmp_path / "one"), "demo")
    assert run.path.read_bytes() == before


@pytest.mark.parametrize("reach", [0, 2])
def test_unfinished_run_of_this_machine_is_not_superseded_by_a_release_of_another(
    tmp_path: Path, remote: RemoteStore, reach: int
) -> None:
    records = RunRecords(tmp_path / "one")
    records.start("demo", reach=reach).add("merge-a")
    released(tmp_path / "other", remote, "fuse-b")
    take_releases(remote, records, "demo")
    assert [record.artifacts for record in records.unfinished()] == [("merge-a",)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("demo-20261129T120000000000.json", b"{"),
        ("demo-20261129T120000000000.json", b'{"recipe": "other", "released": "fuse-a"}'),
        ("demo-20261129T120000000000.json", b'{"recipe": "demo"}'),
        ("../demo-20261129T120000000000.json", b'{"recipe": "demo", "released": "fuse-a"}'),
        ("notes.json", b'{"recipe": "demo", "released": "fuse-a"}'),
    ],
)
def test_what_is_no_release_of_the_recipe_is_left_out(
    tmp_path: Path, remote: RemoteStore, name: str, content: bytes
) -> None:
    remote.place.replace(f"releases/demo/{name}", content)
    records = RunRecords(tmp_path / "one")
    take_releases(remote, records, "demo")
    assert not list(records.root.glob("**/*"))
