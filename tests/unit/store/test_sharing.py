"""What a machine notes of a remote store, and what it mends and adopts there."""

from pathlib import Path

import pytest

from tasks.core.errors import StorageUnavailable
from tasks.core.keys import stage_key
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import RemoteStore, Staging, Store
from tasks.core.store.pushed import PushedNote, was_fetched, write_note
from tests.unit.store.conftest import Machine

KEY = stage_key("merge", 1, {})
EDITED = stage_key("edit", 1, {})


def write(staging: Staging) -> None:
    (staging.path / "weights").write_bytes(b"weights")


def other_bytes(staging: Staging) -> None:
    (staging.path / "weights").write_bytes(b"another training's weights")


def fail(_: Staging) -> None:
    raise AssertionError("it was built although it is there")


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "shared").mkdir()
    return f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{tmp_path.name}"


def test_what_another_machine_has_made_stays_known_as_that(machine: Machine) -> None:
    first, second = machine("first"), machine("second")
    first.build(KEY, write)
    second.build(KEY, fail)
    for _ in range(2):
        assert was_fetched(first.root, str(KEY)) is False
        assert was_fetched(second.root, str(KEY)) is True
        first.push(str(KEY))
        second.push(str(KEY))
    assert was_fetched(first.root, str(EDITED)) is False


def test_a_note_that_does_not_say_who_has_made_it_is_of_this_machines_own(tmp_path: Path) -> None:
    write_note(tmp_path, str(KEY), PushedNote(url="memory://", ours="a", theirs="a"))
    assert was_fetched(tmp_path, str(KEY)) is False


def test_what_has_settled_is_used_while_others_read_it(machine: Machine, said: list[str]) -> None:
    def private(staging: Staging) -> None:
        staging.keep_private()
        write(staging)

    store = machine("first")
    store.build(KEY, write)
    store.build(EDITED, private)
    said.clear()
    with machine("first").present([str(KEY), str(EDITED)]):
        for key in (KEY, EDITED):
            assert store.build(key, fail, wait_s=0).cached
    assert said == []


def test_of_two_that_finish_at_once_the_first_manifest_counts(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_names = StorageDirectory.sync_names
    first: list[str] = []

    def after_another(self: StorageDirectory, folder: str) -> None:
        monkeypatch.setattr(StorageDirectory, "sync_names", sync_names)
        first.append(machine("first").build(KEY, other_bytes).artifact.digest)

    monkeypatch.setattr(StorageDirectory, "sync_names", after_another)
    assert machine("second").build(KEY, write).artifact.digest == first[0]
    assert machine("third").build(KEY, fail).artifact.digest == first[0]


def test_what_could_not_be_pushed_is_finished_here_and_pushed_by_the_next_run(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: StorageDirectory, *_: object) -> None:
        raise StorageUnavailable("The remote store cannot be reached.")

    with monkeypatch.context() as patch:
        patch.setattr(StorageDirectory, "send", away)
        with pytest.raises(StorageUnavailable, match="finished on this machine") as unpushed:
            machine("first").build(KEY, write)
    assert "store push" in (unpushed.value.next_step or "")
    assert machine("first").build(KEY, fail).cached
    assert machine("second").build(KEY, fail).cached


def test_only_what_is_new_there_is_told(machine: Machine, url: str, said: list[str]) -> None:
    first = machine("first")
    first.build(KEY, write)
    assert said == [f"{KEY}: at {url}"]
    first.push(str(KEY))
    assert len(said) == 1


def test_with_a_broken_manifest_every_file_is_read_again_there(machine: Machine, url: str) -> None:
    first = machine("first")
    artifact = first.build(KEY, write).artifact
    first.build(EDITED, write)
    place = StorageDirectory.open(url)
    place.replace(f"{KEY}/manifest.json", b"garbage")
    place.replace(f"files/{artifact.manifest.files['weights'].sha256}", b"Weights")
    first.remove([artifact.path])
    first.build(KEY, write)
    assert machine("second").build(KEY, fail).cached


def test_what_was_read_back_once_is_not_read_again_for_another_artifact(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine("first")
    first.build(KEY, write)
    monkeypatch.delattr(StorageDirectory, "digest")
    first.build(EDITED, write)
    assert machine("first").build(EDITED, fail).cached


@pytest.mark.parametrize(
    "opened", [RemoteStore.open, lambda url: RemoteStore(StorageDirectory.open(url))]
)
def test_a_remote_store_gets_what_people_wrote_only_if_that_is_said(
    tmp_path: Path, url: str, opened: type[RemoteStore]
) -> None:
    store = Store(tmp_path / "first", remote=opened(url))
    artifact = store.build(KEY, Staging.keep_private).artifact
    assert store.is_shared(artifact) is False
    assert StorageDirectory.open(url).files("") == {}
