"""What one run changes of its recipe: refused with the field's name, or checked as from a file."""

import pytest

from tasks.core.errors import RecipeError
from tasks.core.recipe import Recipe
from tasks.core.recipe.file import find_recipe, load_recipe
from tasks.core.recipe.overrides import overridden


@pytest.fixture
def demo() -> Recipe:
    return load_recipe(find_recipe("demo"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["finetune.epochs"], "expected: field=value"),
        (["=2"], "expected: field=value"),
        (["finetune.epochs=-1"], "finetune.epochs: Input should be greater than 0"),
        (["finetune.epoch=1"], "finetune.epoch: no such field. Did you mean epochs?"),
        (["finetun.epochs=1"], "finetun: no such field. Did you mean finetune?"),
        (["finetune.epochs=1", "finetune.epochs=2"], "overridden twice"),
        (["deploy.gateway.port=["], "The value is not valid YAML"),
        (["deploy.gateway.port.low=1"], "deploy.gateway.port: Input should be a valid integer"),
        (["base.directory=/m"], "give either repo or directory"),
        (["deploy={gpus: 1, gpus: 2}"], "stand twice"),
    ],
)
def test_mistake_is_named_with_its_field(demo: Recipe, overrides: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        overridden(demo, overrides)
    assert words in str(caught.value)


def test_a_stage_that_is_left_out_does_not_come_back_with_one_field(demo: Recipe) -> None:
    bare = overridden(demo, ["publish="])
    assert bare.publish is None
    with pytest.raises(RecipeError, match="leaves out") as caught:
        overridden(bare, ["publish.private=false"])
    assert "publish={private: …}" in str(caught.value)


def test_what_is_refused_is_not_repeated_as_it_may_be_a_password(demo: Recipe) -> None:
    with pytest.raises(RecipeError) as caught:
        overridden(demo, ["publish={target: 's3://me:hunter2@bucket'}"])
    assert "hunter2" not in str(caught.value)


def test_fields_are_changed_and_all_others_stay(demo: Recipe) -> None:
    changed = overridden(
        demo,
        ["finetune.learning_rate=1e-4", "evaluate.gate.max_perplexity=90", "deploy=", "name=other"],
    )
    assert changed.finetune is not None
    assert demo.finetune is not None
    assert changed.finetune == demo.finetune.model_copy(update={"learning_rate": 1e-4})
    assert changed.evaluate.gate == demo.evaluate.gate.model_copy(update={"max_perplexity": 90})
    same = {"base", "delta", "edit", "publish", "hub", "template", "keep"}
    assert changed.model_dump(include=same) == demo.model_dump(include=same)
    assert (changed.deploy, changed.name) == (None, "other")


def test_a_place_is_exchanged_for_another_by_two_overrides(demo: Recipe) -> None:
    base = overridden(demo, ["base.repo=", "base.directory=/models/base"]).base
    assert (base.repo, str(base.directory)) == (None, "/models/base")


def test_nothing_to_change_gives_the_recipe_itself(demo: Recipe) -> None:
    assert overridden(demo, []) is demo
