import os
from pathlib import Path

import pytest

from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT
from tasks.core.recipe import KAWAN_USAHA
from tasks.core.recipe.data import DataSource
from tasks.core.recipe.file import find_recipe, load_recipe, located, recipe_names


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
        ("deploy: {engin: vllm}", "deploy.engin: no such field. Did you mean engine"),
        ("evaluate: {gate: {max_perplexty: 2}}", "Did you mean max_perplexity"),
        ("base: {repo: a/b, directory: /m}", "base: give either repo or directory"),
        ("deploy: {gateway: {port: high}}", "deploy.gateway.port: Input should be a valid integer"),
    ],
)
def test_mistake_is_named_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, text))
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("finetune:\n  epochs: 1\ndeploy: {}\nfinetune:\n  epochs: 2\n", "line 4: finetune st"),
        ("finetune:\n  epochs: 1\n  lora:\n    r: 1\n    r: 2\n", "line 5: r stands in line 4 a"),
        ("name: a\n'name': b\n", "line 2: name stands in line 1 already"),
        ("edit: {activations: [{activation: gelu, activation: silu}]}", "line 1: activation"),
    ],
)
def test_a_field_that_stands_twice_is_refused_with_both_lines(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(RecipeError, match="stand twice") as caught:
        load_recipe(written(tmp_path, text))
    assert words in str(caught.value.found)


def test_every_field_that_stands_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"line 2: name[\s\S]*line 4: deploy"):
        load_recipe(written(tmp_path, "name: a\nname: b\ndeploy: {}\ndeploy: {}\n"))


def test_an_anchor_that_is_used_twice_is_no_field_that_stands_twice(tmp_path: Path) -> None:
    text = "finetune: {lora: &l {r: 4}}\nname: x\nevaluate: {benchmarks: &b [a], prompts: p}\n"
    assert load_recipe(written(tmp_path, text)).name == "x"


@pytest.mark.parametrize("text", ["name: 2020-99-99", "[" * 1500, "{1: 2}", "? [a]\n: b"])
def test_yaml_that_python_refuses_is_a_recipe_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(written(tmp_path, text))


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\n", encoding="utf-8-sig")
    assert load_recipe(path).name == "x"


def test_a_recipe_from_a_pipe_is_read(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"name: x\n")
    os.close(write_end)
    assert load_recipe(find_recipe(f"/dev/fd/{read_end}")).name == "x"
    os.close(read_end)


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


def test_public_keys_of_a_recipe_are_looked_up_like_data_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key.pub").touch()
    asked = "{name: x, base: {repo: a/b, signed_by: key.pub}, delta: {signed_by: key.pub}, "
    asked += "publish: {repo: a/c, signed_by: key.pub}, deploy: {signed_by: key.pub}}"
    recipe = located(load_recipe(written(tmp_path, asked)))
    parts = (recipe.base, recipe.delta, recipe.publish, recipe.deploy)
    assert {part.signed_by for part in parts if part} == {tmp_path / "key.pub"}


def test_files_and_directories_of_the_data_are_looked_up_and_data_sets_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chats").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = """
    finetune:
      data:
        - data/conversation.json
        - {directory: chats, weight: 2}
        - {repo: warung/tanya, revision: v1}
        - {collected: toko}
    """
    settings = located(load_recipe(written(tmp_path, asked))).finetune
    assert settings is not None
    assert settings.data == (
        DataSource(file=PROJECT / "data/conversation.json"),
        DataSource(directory=tmp_path / "chats", weight=2),
        DataSource(repo="warung/tanya", revision="v1"),
        DataSource(collected="toko"),
    )
