"""The sources of a run: at one commit each, asked once, and without the Hub where it may be."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tasks.core.demo.hub import HubAddress
from tasks.core.errors import DiskFull, HubUnavailable, RevisionNotFound
from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.hub.download.sources import Sources
from tasks.core.model.template_record import TEMPLATE_RECORD, record_template
from tasks.core.recipe import Base, Delta, Recipe
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tests.hub_faults import Faults, Refuse
from tests.unit.hub.conftest import OWNER, REPO

MAIN = Base(repo=REPO)
ASKED = "/api/models/.*/revision/"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.hub.download.sources.WAITS_S", (0.0, 0.0))


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch, hub: HubAddress) -> None:
    monkeypatch.setenv("HF_TOKEN", OWNER)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def recipe(base: Base = MAIN, **fields: object) -> Recipe:
    return Recipe.model_validate({"name": "tiny", "base": base, **fields})


def run_once(home: Path, of: Recipe) -> Sources:
    """Fetch what a recipe starts from, and record the run as a rebuild does."""
    sources = Sources.of(of, home)
    for each in sources:
        download_source(each, Store(home))
    RunRecords(home).start(of.name, commits=sources.commits).finish()
    return sources


def move_main(owner: HfApi) -> str:
    """Return the commit that main names after a new one."""
    note = owner.upload_file(path_or_fileobj=b"new", path_in_repo="README.md", repo_id=REPO)
    return note.oid


def hub_is_down(faults: Faults) -> None:
    faults.add(Refuse(503), ".*", times=1000)


def test_a_hub_that_does_not_answer_is_asked_three_times_and_then_told(
    published: str, home: Path, faults: Faults
) -> None:
    hub_is_down(faults)
    with pytest.raises(HubUnavailable) as told:
        _ = Sources.of(recipe(), home, {}).commits
    assert told.value.retryable
    assert len(faults.requests(ASKED)) == 3
    assert "when_offline" in str(told.value.next_step)


def test_where_no_run_is_about_a_hub_that_does_not_answer_is_asked_once(
    published: str, home: Path, faults: Faults
) -> None:
    hub_is_down(faults)
    with pytest.raises(HubUnavailable):
        Sources.of(recipe(), home).base.template()
    assert len(faults.requests(ASKED)) == 1


def test_a_revision_that_is_not_there_is_told_at_once(
    published: str, home: Path, faults: Faults
) -> None:
    with pytest.raises(RevisionNotFound):
        _ = Sources.of(recipe(Base(repo=REPO, revision="nowhere")), home, {}).commits
    assert len(faults.requests(ASKED)) == 1


def test_without_the_hub_the_last_commit_is_only_taken_if_the_recipe_says_so(
    published: str, home: Path, faults: Faults
) -> None:
    before = run_once(home, recipe())
    hub_is_down(faults)
    with pytest.raises(HubUnavailable):
        _ = Sources.of(recipe(), home, {}).commits
    sources = Sources.of(recipe(when_offline="last-commit"), home)
    assert sources.commits == before.commits
    assert str(before.base.commit)[:12] in sources.warnings[0]
    assert download_source(sources.base, Store(home)).cached
    assert sources.base.config()["model_type"] == "llama"


def test_a_last_commit_whose_files_are_not_in_the_store_helps_nobody(
    published: str, home: Path, faults: Faults
) -> None:
    commits = Sources.of(recipe(), home, {}).commits
    RunRecords(home).start("tiny", commits=commits).finish()
    hub_is_down(faults)
    with pytest.raises(HubUnavailable):
        _ = Sources.of(recipe(when_offline="last-commit"), home).commits


def test_a_hub_that_answers_is_believed_whatever_the_last_commit_was(
    published: str, home: Path, owner: HfApi
) -> None:
    run_once(home, recipe())
    moved = move_main(owner)
    sources = Sources.of(recipe(when_offline="last-commit"), home)
    assert sources.base.commit == moved
    assert sources.warnings == ()


def test_a_full_commit_in_the_store_needs_no_hub(
    published: str, home: Path, faults: Faults
) -> None:
    commit = run_once(home, recipe()).base.commit
    pinned = recipe(Base(repo=REPO, revision=str(commit)))
    hub_is_down(faults)
    asked = len(faults.served)
    sources = Sources.of(pinned, home)
    assert download_source(sources.base, Store(home)).cached
    assert sources.base.template() is None
    assert sources.base.size_bytes() > 0
    assert len(faults.served) == asked


def test_an_attempt_takes_the_commits_of_the_one_before_and_a_new_run_resolves_anew(
    published: str, home: Path, owner: HfApi
) -> None:
    first = Sources.of(recipe(), home, {}).commits
    RunRecords(home).start("tiny", attempt_of="a flow run", commits=first)
    moved = move_main(owner)
    records = RunRecords(home)
    again = Sources.of(recipe(), home, records.commits_of("a flow run"))
    assert again.commits == first
    assert {file.path for file in again.base.model().files} >= {"config.json"}
    assert again.base.model().commit == again.base.commit
    new = Sources.of(recipe(), home, records.commits_of("another"))
    assert new.base.commit == moved != again.base.commit


def test_a_fetch_and_all_questions_before_it_ask_for_the_revision_once(
    published: str, home: Path, faults: Faults
) -> None:
    source = Sources.of(recipe(), home, {}).base
    assert source.config()["model_type"] == "llama"
    assert source.template() is None
    size = source.size_bytes()
    assert download_source(source, Store(home)).artifact.manifest.size_bytes == size
    assert len(faults.requests("/api/models/")) == 1


def test_a_recorded_template_is_read_at_the_commit(
    published: str, home: Path, owner: HfApi, tmp_path: Path
) -> None:
    record_template(tmp_path, "zephyr")
    owner.upload_file(
        path_or_fileobj=tmp_path / TEMPLATE_RECORD, path_in_repo=TEMPLATE_RECORD, repo_id=REPO
    )
    assert Sources.of(recipe(), home, {}).base.template() == "zephyr"


def test_there_must_be_room_for_what_is_fetched_beside(
    published: str, home: Path, owner: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = Sources.of(recipe(delta=Delta(repo=REPO)), home)
    assert sources.delta is not None
    size = sources.base.size_bytes()
    monkeypatch.setattr("tasks.core.files.disk_space.free_bytes", lambda _: size * 3 // 2)
    other = PinnedSource(Base(repo=REPO, revision=move_main(owner)), Store(home))
    with pytest.raises(DiskFull):
        download_source(sources.base, Store(home), beside=[other])
    download_source(sources.base, Store(home))
    download_source(
        other, Store(home), beside=[sources.base]
    )  # which is whole by now, and needs no room
