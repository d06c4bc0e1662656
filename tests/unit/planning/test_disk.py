from pathlib import Path

from tasks.core.planning.shape import LLAMA_13B
from tasks.core.planning.stages import DiskUse, Sizes, disk_use, stage_needs
from tasks.core.recipe import KAWAN_USAHA, Base, Delta, Recipe

WEIGHTS = LLAMA_13B.weight_bytes("float16")


def use(**parts: object) -> DiskUse:
    recipe: Recipe = KAWAN_USAHA.model_copy(update=parts)
    needs = stage_needs(recipe, LLAMA_13B)
    return disk_use(recipe, needs, LLAMA_13B, Sizes())


def test_delta_is_gone_before_the_second_model_is_written() -> None:
    found = use()
    assert found.all["merge"] == found.released["merge"] == 3 * WEIGHTS
    assert found.all["fuse"] - found.released["fuse"] == WEIGHTS


def test_models_that_the_evaluation_measures_are_there_until_it_is_done() -> None:
    found = use()
    assert found.all["evaluate"] - found.released["evaluate"] == WEIGHTS
    assert found.all["deploy"] - found.released["deploy"] == 3 * WEIGHTS


def test_merged_weights_that_the_released_edit_shares_are_not_freed() -> None:
    found = use(finetune=None)
    assert found.all["deploy"] - found.released["deploy"] == 2 * WEIGHTS


def test_base_that_the_released_edit_shares_is_not_freed() -> None:
    found = use(delta=None, finetune=None)
    assert found.all == found.released


def test_directories_that_the_plan_does_not_count_are_not_counted_as_freed() -> None:
    here = Path("here")
    found = use(base=Base(directory=here), delta=Delta(directory=here))
    assert found.all["deploy"] - found.released["deploy"] == WEIGHTS
