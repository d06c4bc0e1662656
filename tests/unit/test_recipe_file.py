from pathlib import Path

import pytest

from tasks.core.errors import RecipeError
from tasks.core.recipe import KAWAN_USAHA
from tasks.core.recipe_file import find_recipe, load_recipe, recipe_names


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "line 1"),
        ("- a\n- b", "list"),
        ("", "NoneType"),
        ("bases: {}", "bases: no such field. Did you mean base"),
        ("deploy: {api_prt: 1}", "deploy.api_prt: no such field. Did you mean api_port"),
        ("evaluate: {gate: {max_perplexty: 2}}", "Did you mean max_perplexity"),
        ("base: {repo: a/b, directory: /m}", "base: give either repo or directory"),
        ("deploy: {api_port: high}", "deploy.api_port: Input should be a valid integer"),
    ],
)
def test_mistake_is_named_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, text))
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, "nam: x\ndeploy: {gpus: 0}\n"))
    assert "nam:" in str(caught.value)
    assert "deploy.gpus:" in str(caught.value)


def test_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="recipe"):
        load_recipe(path)


def test_unknown_name_is_answered_with_the_near_one() -> None:
    with pytest.raises(RecipeError, match="Did you mean demo"):
        find_recipe("dmeo")


def test_kawan_usaha_file_states_the_defaults_in_full() -> None:
    assert load_recipe(find_recipe("kawan-usaha-13b")) == KAWAN_USAHA


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_project_is_right_and_bears_its_name(name: str) -> None:
    assert load_recipe(find_recipe(name)).name == name
