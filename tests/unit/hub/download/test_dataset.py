"""A data set of a recipe: one commit a run, fetched once, and without the Hub where it may be."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tasks.core.errors import HubUnavailable, RepositoryNotFound, UsageError
from tasks.core.hub.download.dataset import PinnedDataSet
from tasks.core.hub.download.sources import Sources
from tasks.core.hub.revisions import Known
from tasks.core.recipe import Finetune, Recipe
from tasks.core.recipe.data import DataSource
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tests.hub_faults import Faults, Refuse
from tests.unit.hub.conftest import OWNER, REPO

SOURCE = DataSource(repo=REPO)
RECORDS = b'[{"id": "a"}]'


@pytest.fixture(autouse=True)
def _ready(monkeypatch: pytest.MonkeyPatch, datasets: str) -> None:
    monkeypatch.setenv("HF_TOKEN", OWNER)
    monkeypatch.setattr("tasks.core.hub.download.sources.WAITS_S", (0.0, 0.0))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def put(owner: HfApi, name: str, content: bytes = RECORDS) -> str:
    """Return the commit of the data set after this file was put into it."""
    owner.create_repo(REPO, exist_ok=True)
    return owner.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=REPO).oid


def learning(*data: object, **fields: object) -> Recipe:
    base = {"directory": "/nowhere"}
    settings = Finetune.model_validate({"data": data})
    return Recipe.model_validate({"name": "tiny", "base": base, "finetune": settings, **fields})


def test_a_data_set_that_is_not_there_is_told_before_anything_is_loaded(home: Path) -> None:
    with pytest.raises(RepositoryNotFound):
        _ = Sources.of(learning({"repo": "warung/tiada"}), home, {}).commits


def test_an_unclear_choice_is_told_before_anything_is_loaded(owner: HfApi, home: Path) -> None:
    put(owner, "a.json")
    put(owner, "b.json")
    with pytest.raises(UsageError, match=r"a\.json, b\.json[\s\S]*`name` in a recipe"):
        _ = Sources.of(learning({"repo": REPO}), home, {}).commits
    named = Sources.of(learning({"repo": REPO, "name": "b.json"}), home, {})
    assert named.data[0].download(Store(home)).artifact.path.joinpath("files/b.json").exists()


def test_a_data_set_is_an_artifact_of_its_commit(owner: HfApi, home: Path) -> None:
    first = put(owner, "data/train.jsonl")
    one = PinnedDataSet(SOURCE, Store(home))
    assert one.commit == first
    put(owner, "data/train.jsonl", b"[]")
    built = one.download(Store(home))
    assert list(built.artifact.manifest.files) == ["files/train.jsonl"]
    assert (built.artifact.path / "files/train.jsonl").read_bytes() == RECORDS
    later = PinnedDataSet(SOURCE, Store(home)).download(Store(home))
    assert (later.artifact.path / "files/train.jsonl").read_bytes() == b"[]"
    assert built.artifact.key != later.artifact.key


def test_what_is_here_at_its_commit_needs_no_hub(owner: HfApi, home: Path, faults: Faults) -> None:
    commit = put(owner, "train.jsonl")
    PinnedDataSet(SOURCE, Store(home)).download(Store(home))
    faults.add(Refuse(503), ".*", times=1000)
    pinned = DataSource(repo=REPO, revision=commit)
    assert PinnedDataSet(pinned, Store(home)).download(Store(home)).cached
    assert PinnedDataSet(SOURCE, Store(home), Known(commit=commit)).download(Store(home)).cached


def test_what_a_broken_off_download_has_left_is_gone_on_with(
    owner: HfApi, home: Path, faults: Faults
) -> None:
    put(owner, "data/train.jsonl")
    one = PinnedDataSet(SOURCE, Store(home))
    assert one.commit
    faults.add(Refuse(503), ".*/resolve/.*", times=1)
    with pytest.raises(HubUnavailable):
        one.download(Store(home))
    assert list(Store(home).artifacts()) == []
    assert (one.download(Store(home)).artifact.path / "files/train.jsonl").read_bytes() == RECORDS


def test_commits_of_data_sets_are_recorded_apart_from_those_of_models(
    owner: HfApi, home: Path, faults: Faults
) -> None:
    commit = put(owner, "train.jsonl")
    sources = Sources.of(learning({"repo": REPO}), home, {})
    assert sources.commits == {f"datasets/{REPO}@main": commit}
    moved = put(owner, "train.jsonl", b"[]")
    again = Sources.of(learning({"repo": REPO}), home, sources.commits)
    assert [each.commit for each in again.data] == [commit]
    assert [each.commit for each in Sources.of(learning({"repo": REPO}), home, {}).data] == [moved]


def test_two_files_of_a_data_set_are_of_one_commit_though_its_branch_moves(
    owner: HfApi, home: Path
) -> None:
    put(owner, "a.json")
    commit = put(owner, "b.json")
    both = learning({"repo": REPO, "name": "a.json"}, {"repo": REPO, "name": "b.json"})
    one, other = Sources.of(both, home, {}).data
    assert one.commit == commit
    put(owner, "b.json", b"[]")
    assert other.commit == commit
    assert (other.download(Store(home)).artifact.path / "files/b.json").read_bytes() == RECORDS


def test_a_second_file_that_is_not_there_is_told_before_anything_is_loaded(
    owner: HfApi, home: Path
) -> None:
    put(owner, "a.json")
    both = learning({"repo": REPO, "name": "a.json"}, {"repo": REPO, "name": "c.json"})
    with pytest.raises(UsageError, match=r"not clear which file[\s\S]*found: a\.json"):
        _ = Sources.of(both, home, {}).commits


def test_without_the_hub_the_last_commit_is_only_taken_if_the_recipe_says_so(
    owner: HfApi, home: Path, faults: Faults
) -> None:
    commit = put(owner, "train.jsonl")
    sources = Sources.of(learning({"repo": REPO}), home, {})
    RunRecords(home).start("tiny", commits=sources.commits).finish()
    faults.add(Refuse(503), ".*", times=3)
    lenient = learning({"repo": REPO}, when_offline="last-commit")
    with pytest.raises(HubUnavailable, match="when_offline"):
        _ = Sources.of(lenient, home, {}).commits  # the store has not got it
    sources.data[0].download(Store(home))
    faults.add(Refuse(503), ".*", times=1000)
    with pytest.raises(HubUnavailable):
        _ = Sources.of(learning({"repo": REPO}), home, {}).commits
    found = Sources.of(lenient, home, {})
    assert found.data[0].commit == commit
    assert commit[:12] in found.warnings[0]
