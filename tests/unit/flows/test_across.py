"""Which stages a rebuild across machines calls, and with what."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.across import pinned_overrides, wanted_stages
from tasks.core.hub.download.dataset_files import ResolvedDataSet
from tasks.core.hub.download.sources import Sources
from tasks.core.recipe import Base, Delta, Deploy, Edit, Finetune, Publish, Recipe
from tasks.core.recipe.data import DataSource
from tasks.core.recipe.overrides import overridden

BARE = Recipe(base=Base(repo="warung/base"))
WHOLE = Recipe(
    base=Base(repo="warung/base"),
    delta=Delta(repo="warung/delta", revision="v1.1"),
    edit=Edit(),
    finetune=Finetune(),
    publish=Publish(repo="warung/model", license="mit"),
    deploy=Deploy(),
)
COMMITS = {"main": "1" * 40, "v1.1": "2" * 40, "v2": "3" * 40}


@pytest.fixture(autouse=True)
def _hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_repo: str, revision: str) -> SimpleNamespace:
        return SimpleNamespace(commit=COMMITS[revision])

    monkeypatch.setattr("tasks.core.hub.download.pinned.resolve_model", resolve)


def test_stages_that_a_recipe_leaves_out_are_not_called() -> None:
    served = BARE.model_copy(update={"deploy": Deploy()})
    assert wanted_stages(served, "deploy") == ["download", "evaluate", "gate", "deploy"]
    released = ["download", "evaluate", "gate", "publish"]  # which records the release
    assert wanted_stages(BARE, "deploy") == released
    assert wanted_stages(WHOLE, "merge") == ["download", "merge"]
    assert wanted_stages(WHOLE, "plan") == []
    assert len(wanted_stages(WHOLE, "deploy")) == 10


def test_all_stages_are_called_with_the_commits_of_the_sources(tmp_path: Path) -> None:
    assert pinned_overrides(WHOLE, Sources.of(WHOLE, tmp_path), ()) == [
        f'base.revision="{COMMITS["main"]}"',
        f'delta.revision="{COMMITS["v1.1"]}"',
    ]


def test_commit_stands_for_the_revision_that_the_caller_has_named(tmp_path: Path) -> None:
    given = ("finetune.epochs=2", "delta.revision=v2")
    changed = overridden(WHOLE, given)
    pins = pinned_overrides(changed, Sources.of(changed, tmp_path), given)
    assert pins == [
        "finetune.epochs=2",
        f'base.revision="{COMMITS["main"]}"',
        f'delta.revision="{COMMITS["v2"]}"',
    ]
    made = overridden(WHOLE, pins)
    assert made.delta is not None
    assert made.delta.revision == COMMITS["v2"]  # digits alone, and a word all the same
    assert made.finetune is not None
    assert made.finetune.epochs == 2


def test_data_sets_are_taken_at_one_commit_by_all_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ResolvedDataSet("warung/tanya", "4" * 40, ("train.jsonl",))
    monkeypatch.setattr("tasks.core.hub.download.dataset.resolve_data_set", lambda *_: found)
    given = ("finetune.data=[data/conversation.json, {repo: warung/tanya, weight: 2}]",)
    changed = overridden(WHOLE, given)
    made = overridden(
        WHOLE, pinned_overrides(changed, Sources.of(changed, tmp_path), given)
    ).finetune
    assert made is not None
    assert made.data == (
        DataSource(file=Path("data/conversation.json")),
        DataSource(repo="warung/tanya", revision="4" * 40, weight=2),
    )
