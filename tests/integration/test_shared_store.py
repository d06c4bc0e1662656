"""Two homes that share only a remote store, through the flow."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.lifecycle import rebuild
from flows.rebuild.run_summary import RunSummary
from tasks.core.errors import StorageRefused, StorageUnavailable
from tasks.core.recipe import Recipe
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import Artifact, RemoteStore, Store

pytestmark = pytest.mark.usefixtures("prefect", "preforked_children")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", f"file://{tmp_path}/shared")
    return f"file://{tmp_path}/shared"


@pytest.fixture
def pushed(built: Path, url: str, tmp_path: Path) -> list[Artifact]:
    """What another home has made of the recipe, and pushed."""
    (tmp_path / "shared").mkdir()
    first = Store(Path(shutil.copytree(built, tmp_path / "first")), remote=RemoteStore.open(url))
    artifacts = list(first.artifacts())
    for artifact in artifacts:
        first.push(str(artifact.key))
    return artifacts


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each part of a file that is read at the remote store."""
    sizes: list[int] = []
    before = StorageDirectory.parts

    def counted(self: StorageDirectory, path: str, size: int, start: int = 0) -> Iterator[bytes]:
        for part in before(self, path, size, start):
            sizes.append(len(part))
            yield part

    monkeypatch.setattr(StorageDirectory, "parts", counted)
    return sizes


def test_a_remote_store_that_is_not_there_is_told_before_anything_is_built(
    recipe: Recipe, home: Path, url: str
) -> None:
    state = rebuild(recipe, until="evaluate", return_state=True)
    error = state.result(raise_on_failure=False)
    assert isinstance(error, StorageRefused)
    assert "mount it" in str(state.message)
    assert list(Store(home).artifacts()) == []


@pytest.mark.usefixtures("pushed")
def test_a_remote_store_out_of_reach_stops_no_run_with_nothing_new(
    recipe: Recipe, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> str:
        raise StorageUnavailable("The storage cannot be reached.")

    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path / "first"))
    monkeypatch.setattr(StorageDirectory, "_at", away)
    report = rebuild(recipe, until="evaluate")
    assert isinstance(report, RunSummary)
    assert all(stage.cached for stage in report.stages)


def test_what_one_home_built_another_has_all_cached_and_fetches_once(
    recipe: Recipe, home: Path, url: str, pushed: list[Artifact], fetched: list[int]
) -> None:
    contents = {f.sha256: f.size_bytes for a in pushed for f in a.manifest.files.values()}
    assert sum(StorageDirectory.open(url).files("files").values()) == sum(contents.values())
    fetched.clear()

    report = rebuild(recipe, until="evaluate")
    assert isinstance(report, RunSummary)
    assert {stage.stage: stage.cached for stage in report.stages} == dict.fromkeys(
        ("base", "delta", "merge", "edit", "evaluate"), True
    )
    assert {str(a.key): a.digest for a in Store(home).artifacts()} == {
        str(a.key): a.digest for a in pushed
    }
    base, delta = (a.manifest.files for a in pushed if a.key.stage == "download")
    both = sum(f.size_bytes for f in base.values() if f in delta.values())  # side by side
    once = sum(contents.values())
    assert once <= sum(fetched) <= once + both


@pytest.mark.usefixtures("pushed")
def test_of_what_is_cached_elsewhere_only_what_is_read_is_fetched(
    recipe: Recipe, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.store.run.FETCHED_AT_ONCE_BYTES", 50_000)
    report = rebuild(recipe)
    assert isinstance(report, RunSummary)
    made = {stage.stage: stage.cached for stage in report.stages}
    assert made.pop("publish") is False
    assert set(made.values()) == {True}
    whole = {artifact.key.stage for artifact in Store(home).artifacts()}
    assert "edit" in whole  # it is published
    assert whole.isdisjoint({"download", "merge"})
