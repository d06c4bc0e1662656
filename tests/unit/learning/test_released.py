import json
from pathlib import Path

import pytest

from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT
from tasks.core.learning.released import recorded_recipe, released_recipe
from tasks.core.recipe import KAWAN_USAHA, Recipe
from tasks.core.recipe.file import located
from tasks.core.store.runs import RunRecords


def test_what_was_never_released_has_no_recipe_to_learn_on(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Nothing has been released"):
        released_recipe(RunRecords(tmp_path), "demo")


def test_a_release_of_an_earlier_version_says_what_to_do(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    records.start("demo").release("fuse-0123456789abcdef0123")
    with pytest.raises(RecipeError, match="rebuild demo` once more"):
        released_recipe(records, "demo")


def test_a_field_of_another_version_stops_the_learning_and_not_the_record(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    plain = {**recorded_recipe(Recipe(name="demo")), "of_another_version": 1}
    records.start("demo").release("fuse-0123456789abcdef0123", recipe=plain)
    assert records.releases("demo") == ["fuse-0123456789abcdef0123"]
    with pytest.raises(RecipeError, match="of_another_version: no such field"):
        released_recipe(records, "demo")


def test_the_recipe_of_the_last_release_comes_back_and_its_data_is_that_of_any_checkout(
    tmp_path: Path,
) -> None:
    records = RunRecords(tmp_path)
    wanted = located(KAWAN_USAHA)
    records.start(wanted.name).release(
        "fuse-0123456789abcdef0123", recipe=recorded_recipe(Recipe())
    )
    records.start(wanted.name).release("fuse-1123456789abcdef0123", recipe=recorded_recipe(wanted))
    found = released_recipe(records, wanted.name)
    assert located(found) == wanted
    assert str(PROJECT) not in json.dumps(found.model_dump(mode="json"))


def test_it_is_built_on_what_the_release_was_built_on_where_a_branch_has_moved(
    tmp_path: Path,
) -> None:
    wanted = Recipe.model_validate(
        {
            "name": "demo",
            "base": {"repo": "usaha/dasar"},
            "delta": {"repo": "usaha/delta", "revision": "v1"},
            "finetune": {"data": [{"repo": "usaha/data"}, {"directory": "data"}]},
        }
    )
    commits = {
        "usaha/dasar@main": "b" * 40,
        "usaha/delta@v1": "d" * 40,
        "datasets/usaha/data@main": "a" * 40,
    }
    assert {str(wanted.base), str(wanted.delta)} < commits.keys()
    records = RunRecords(tmp_path)
    run = records.start("demo", commits=commits)
    run.release("fuse-0123456789abcdef0123", recipe=recorded_recipe(wanted))
    found = released_recipe(records, "demo")
    assert found.delta is not None
    assert found.finetune is not None
    assert (found.base.revision, found.delta.revision) == ("b" * 40, "d" * 40)
    assert [source.revision for source in found.finetune.data] == ["a" * 40, "main"]
