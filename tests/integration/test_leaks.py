import json
from pathlib import Path

import pytest
from prefect import flow

from flows.lifecycle import rebuild
from tasks.core.errors import DataError
from tasks.core.recipe import Evaluate, Finetune, Recipe
from tasks.core.store import Store
from tasks.leaks import leaks, overlap_in
from tasks.runtime import run
from tasks.stage_result import StageResult

pytestmark = pytest.mark.usefixtures("prefect", "home")


def conversation(number: int) -> dict[str, object]:
    turns = [("human", f"Berapa harga nomor {number}?"), ("gpt", f"Harganya {number * 7} rupiah.")]
    return {
        "id": str(number),
        "conversations": [{"from": who, "value": what} for who, what in turns],
    }


@flow
def held_against(training: object, held_out: Path, force: str | None = None) -> StageResult:
    tuned = Finetune.model_validate({"data": training})
    return run(leaks, tuned, Evaluate(conversations=held_out), force)


@pytest.fixture
def training(tmp_path: Path) -> Path:
    (tmp_path / "training.json").write_text(json.dumps([conversation(n) for n in range(10)]))
    return tmp_path / "training.json"


def test_a_whole_leak_is_refused_before_the_training_unless_it_is_forced(
    training: Path, tmp_path: Path
) -> None:
    held_out = tmp_path / "held_out.json"
    held_out.write_text(json.dumps([conversation(n) for n in (3, 4)]))
    with pytest.raises(DataError, match="Every held-out conversation is in the training data"):
        held_against(training, held_out)
    with pytest.raises(DataError):
        held_against(training, held_out, " ")
    assert overlap_in(held_against(training, held_out, "a trial")).first(None).whole


def test_of_several_files_a_leak_has_the_name_of_now(training: Path, tmp_path: Path) -> None:
    held_out, other = tmp_path / "held_out.json", tmp_path / "other.json"
    held_out.write_text(json.dumps([conversation(n) for n in (3, 77)]))
    other.write_text(json.dumps([conversation(50)]))
    for name in ("training.json", "moved.json"):
        moved = training.rename(tmp_path / name)
        found = held_against([moved, other], held_out)
        training = moved
        assert str(overlap_in(found).leaks[0]).endswith(f"of {moved}")


def test_what_leaks_is_found_once_for_the_same_content(
    training: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held_out = tmp_path / "held_out.json"
    held_out.write_text(json.dumps([conversation(n) for n in (3, 77)]))
    first, again = (held_against(training, held_out) for _ in range(2))
    assert (first.cached, again.cached) == (False, True)
    assert overlap_in(again).first(None).count == 1
    assert caplog.text.count("1 of 2 held-out conversations stand in the training data") >= 2
    training.write_text(json.dumps([conversation(n) for n in range(3)]))
    other = held_against(training, held_out)
    assert not other.cached
    assert overlap_in(other).first(None).count == 0


def test_a_recipe_that_is_measured_with_its_training_data_is_refused_before_its_first_stage(
    recipe: Recipe, home: Path
) -> None:
    tuned = Finetune(data=recipe.evaluate.conversations, device="cpu", zero_stage=0, language=None)
    with pytest.raises(DataError, match="Every held-out conversation"):
        rebuild(recipe.model_copy(update={"finetune": tuned}), return_state=True).result()
    assert {artifact.key.stage for artifact in Store(home).artifacts()} == {"leaks"}
