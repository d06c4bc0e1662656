"""A large artifact of another machine: known at once, and fetched only when a stage reads it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import StageMissing
from tasks.core.home import PROJECT
from tasks.core.keys import StageKey, stage_key
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import RemoteStore, RunStore, Staging
from tasks.core.store.manifest import KEPT_WHEN_FREED_BYTES, freed_place, kept_file
from tasks.core.store.pushed import was_fetched
from tasks.core.store.run import FETCHED_AT_ONCE_BYTES
from tasks.core.store.runs import RunRecords

MODEL = stage_key("merge", 1, {}, {})
EDITED = stage_key("edit", 1, {}, {"model": "of it"})
WEIGHTS = b"w" * (KEPT_WHEN_FREED_BYTES + 1)

Machine = Callable[..., RunStore]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(WEIGHTS) < FETCHED_AT_ONCE_BYTES
    monkeypatch.setattr("tasks.core.store.run.FETCHED_AT_ONCE_BYTES", 1)


@pytest.fixture
def machine(url: str, tmp_path: Path, said: list[str]) -> Machine:
    """Make the store of a run on a machine of this name."""

    def make(name: str, finished: tuple[str, ...] = ()) -> RunStore:
        run = RunRecords(tmp_path / name).start("demo")
        remote = RemoteStore.open(url)
        return RunStore(tmp_path / name, run, say=said.append, finished=finished, remote=remote)

    return make


def write_model(staging: Staging) -> None:
    (staging.path / "config.json").write_text("{}")
    (staging.path / "model.safetensors").write_bytes(WEIGHTS)
    staging.note(parameters=7)


def never(_: Staging) -> None:
    pytest.fail("it is made already")


def files_of(store: RunStore, key: StageKey) -> set[str]:
    path = store.path_of(key)
    return {each.name for each in path.iterdir()} if path.exists() else set()


@pytest.mark.usefixtures("large")
def test_large_artifact_is_known_without_its_files(machine: Machine) -> None:
    made = machine("one").build(MODEL, write_model).artifact
    other = machine("other")
    built = other.build(MODEL, never)
    assert built.cached
    assert built.artifact.freed
    assert built.artifact.manifest == made.manifest
    assert files_of(other, MODEL) == set()


@pytest.mark.usefixtures("large")
def test_small_files_of_a_large_artifact_are_fetched_at_once_and_cannot_be_changed(
    machine: Machine,
) -> None:
    def write(staging: Staging) -> None:
        write_model(staging)
        (staging.path / "tokenizer.json").write_bytes(b"t" * KEPT_WHEN_FREED_BYTES)

    machine("one").build(MODEL, write)
    other = machine("other")
    other.build(MODEL, never)
    path = other.path_of(MODEL)
    kept = {each.name for each in freed_place(path).iterdir()}
    assert kept == {"manifest.json", "config.json", "tokenizer.json"}
    assert (freed_place(path) / "manifest.json").stat().st_mode & 0o777 == 0o444
    assert kept_file(path, "model.safetensors") is None
    assert was_fetched(other.root, str(MODEL))


@pytest.mark.usefixtures("large")
def test_large_artifact_with_a_broken_small_file_is_made_again(
    machine: Machine, url: str, said: list[str]
) -> None:
    made = machine("one").build(MODEL, write_model).artifact
    sha256 = made.manifest.files["config.json"].sha256
    StorageDirectory.open(url).replace(f"files/{sha256}", b"[]")
    other = machine("other")
    assert not other.build(MODEL, write_model).cached
    assert other.freed(str(MODEL)) is None
    assert sum("is broken" in line for line in said) == 1
    assert machine("third").build(MODEL, never).cached


@pytest.mark.usefixtures("large")
def test_large_artifact_is_fetched_when_a_stage_reads_it(machine: Machine, said: list[str]) -> None:
    machine("one").build(MODEL, write_model)
    other = machine("other")
    other.build(MODEL, never)
    seen: list[bytes] = []

    def read_it(staging: Staging) -> None:
        seen.append((other.path_of(MODEL) / "model.safetensors").read_bytes())
        (staging.path / "config.json").write_text("{}")

    other.build(EDITED, read_it, needs=[str(MODEL)])
    assert seen == [WEIGHTS]
    assert any("needed now" in line for line in said)
    third = machine("third")
    assert third.build(MODEL, never).artifact.freed
    with third.present([str(MODEL)]):
        assert files_of(third, MODEL) == {"config.json", "model.safetensors", "manifest.json"}


@pytest.mark.usefixtures("large")
def test_large_artifact_of_a_finished_stage_is_not_missing(machine: Machine) -> None:
    machine("one").build(MODEL, write_model)
    other = machine("other", finished=("merge", "edit"))
    assert other.build(MODEL, never).cached
    with pytest.raises(StageMissing):
        other.build(EDITED, never)


@pytest.mark.usefixtures("large")
def test_large_artifact_that_the_remote_store_has_lost_is_made_again(
    machine: Machine, url: str
) -> None:
    machine("one").build(MODEL, write_model)
    other = machine("other")
    other.build(MODEL, write_model)
    RemoteStore.open(url).place.remove(f"{MODEL}/manifest.json")
    with other.present([str(MODEL)]):
        assert (other.path_of(MODEL) / "model.safetensors").read_bytes() == WEIGHTS


def test_broken_manifest_is_told_once(machine: Machine, url: str, said: list[str]) -> None:
    StorageDirectory.open(url).replace(f"{MODEL}/manifest.json", b"garbage")
    machine("first").build(MODEL, write_model)
    assert sum("is broken" in line for line in said) == 1


def test_small_artifact_is_fetched_at_once(machine: Machine) -> None:
    machine("one").build(MODEL, write_model)
    other = machine("other")
    assert not other.build(MODEL, never).artifact.freed
    assert "model.safetensors" in files_of(other, MODEL)


def test_large_is_what_the_docs_call_so() -> None:
    told = (PROJECT / "docs" / "machines.md").read_text()
    assert f"An artifact of {FETCHED_AT_ONCE_BYTES >> 20} MiB or more is fetched only when" in told
