"""Several sources of a recipe in a run: brought, prepared together, and searched for leaks."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from prefect import flow

from flows.lifecycle import rebuild
from flows.rebuild.training_data import fetch_training_data
from tasks.core.conversation.prepared import read_prepared
from tasks.core.errors import DataError, RepositoryNotFound
from tasks.core.home import home
from tasks.core.hub.download.sources import Sources
from tasks.core.recipe import Base, Evaluate, Finetune, Recipe
from tasks.core.store import RunStore, Store
from tasks.core.store.runs import RunRecords
from tasks.leaks import leaks, overlap_in
from tasks.prepare import prepare
from tasks.runtime import run, running
from tasks.stage_result import StageResult
from tests.integration.test_prepare import as_stage
from tests.models import tiny_tokenizer
from tests.unit.hub.conftest import OWNER, REPO, datasets, faults, hub, owner

__all__ = ["datasets", "faults", "hub", "owner"]

pytestmark = pytest.mark.usefixtures("prefect", "home")
TEMPLATE = "vicuna_v1.1"


def messages(number: int) -> dict[str, object]:
    said = [("user", f"Berapa harga nomor {number}?"), ("assistant", f"Harganya {number}.")]
    return {"messages": [{"role": who, "content": what} for who, what in said]}


def conversation(number: int) -> dict[str, object]:
    said = [("human", f"Berapa harga nomor {number}?"), ("gpt", f"Harganya {number}.")]
    turns = [{"from": who, "value": what} for who, what in said]
    return {"id": f"c{number}", "conversations": turns}


@pytest.fixture
def model(tmp_path: Path) -> StageResult:
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return as_stage(tmp_path / "model")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "own.json").write_text(json.dumps([conversation(n) for n in range(6)]))
    return tmp_path / "own.json"


def learning(tmp_path: Path, *data: object) -> Recipe:
    settings = {"data": data, "language": None, "max_dropped_share": 0.5, "device": "cpu"}
    base, tuned = Base(directory=tmp_path), Finetune.model_validate(settings)
    return Recipe(name="tiny", base=base, finetune=tuned)


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    (tmp_path / "held_out.json").write_text(json.dumps([conversation(n) for n in (5, 9, 77)]))
    return tmp_path / "held_out.json"


@pytest.fixture
def published(datasets: str, owner: HfApi, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set in OpenAI's format; the first two of its six stand in the file as well."""
    monkeypatch.setenv("HF_TOKEN", OWNER)
    lines = "\n".join(json.dumps(messages(n)) for n in range(4, 10))
    owner.create_repo(REPO)
    owner.upload_file(path_or_fileobj=lines.encode(), path_in_repo="train.jsonl", repo_id=REPO)
    return REPO


@flow
def brought_and_prepared(
    recipe: Recipe, model: StageResult, held_out: Path
) -> tuple[StageResult, StageResult]:
    assert recipe.finetune is not None
    data = fetch_training_data(recipe, Sources.of(recipe, home(), {}))
    found = run(leaks, recipe.finetune, Evaluate(conversations=held_out), None, data)
    return run(prepare, model, recipe.finetune, TEMPLATE, data), found


def test_a_data_set_that_is_not_there_ends_a_rebuild_before_its_first_stage(
    recipe: Recipe, datasets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", OWNER)
    tuned = Finetune.model_validate(
        {"data": {"repo": "warung/tiada"}, "device": "cpu", "zero_stage": 0}
    )
    with pytest.raises(RepositoryNotFound):
        rebuild(recipe.model_copy(update={"finetune": tuned}), return_state=True).result()
    assert list(Store(home()).artifacts()) == []


def test_an_empty_directory_ends_a_rebuild_before_its_first_stage(
    recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    data = {"directory": tmp_path / "empty"}
    tuned = Finetune.model_validate({"data": data, "device": "cpu", "zero_stage": 0})
    with pytest.raises(DataError, match="no file of conversations"):
        rebuild(recipe.model_copy(update={"finetune": tuned}), return_state=True).result()
    assert list(Store(home()).artifacts()) == []


def test_a_file_and_a_data_set_are_prepared_together_and_their_leaks_named(
    file: Path,
    model: StageResult,
    published: str,
    held_out: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = learning(file.parent, file, {"repo": published, "weight": 3})
    assert recipe.finetune is not None
    examples, leaking = brought_and_prepared(recipe, model, held_out)
    prepared = read_prepared(examples.path, recipe.finetune, TEMPLATE)
    assert prepared.counts.examples == 6 + 3 * 4
    found = overlap_in(leaking).first(None)
    assert (found.training_records, found.count) == (12, 2)
    assert str(found.first[1]).endswith(f"of {published}@main")
    assert f"{published}@main: OpenAI's format, weight 3" in caplog.text
    again = brought_and_prepared(recipe, model, held_out)
    assert [each.cached for each in again] == [True, True]
    lighter = learning(file.parent, file, {"repo": published, "weight": 2})
    other, _ = brought_and_prepared(lighter, model, held_out)
    assert not other.cached


def test_a_data_set_belongs_to_the_run_that_has_brought_it(tmp_path: Path, published: str) -> None:
    recipe = learning(tmp_path, {"repo": published})

    @flow
    def brought_in_a_run() -> tuple[StageResult, tuple[str, ...]]:
        record = RunRecords(home()).start("tiny")
        with running(RunStore(home(), record)):
            brought = fetch_training_data(recipe, Sources.of(recipe, home(), {}))
        return brought[f"{published}@main"], tuple(record.record.artifacts)

    found, recorded = brought_in_a_run()
    assert recorded == (found.artifact,)


def test_what_was_reviewed_is_learned_from_its_artifact(
    tmp_path: Path, file: Path, model: StageResult
) -> None:
    reviewed = tmp_path / "reviewed"
    reviewed.mkdir()
    (reviewed / "conversations.jsonl").write_text(json.dumps(conversation(50)) + "\n")
    (reviewed / "held_out.jsonl").write_text(json.dumps(conversation(51)) + "\n")
    recipe = learning(tmp_path, file, {"collected": "tiny"})

    @flow
    def prepared() -> StageResult:
        assert recipe.finetune is not None
        data = {"collected by tiny": as_stage(reviewed).model_copy(update={"artifact": "model"})}
        return run(prepare, model, recipe.finetune, TEMPLATE, data)

    assert prepared().facts["examples"] == 7
