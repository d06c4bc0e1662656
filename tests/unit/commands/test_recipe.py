"""`kawan-usaha recipe`: its words, what it writes, and its exit codes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from flows.cli import app
from tasks.core.errors import RecipeError, UsageError
from tasks.core.recipe.file import find_recipe, load_recipe
from tasks.core.recipe.schema import recipe_schema
from tests.command_line import Run


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["recipe", *map(str, words)], catch_exceptions=False)


@pytest.fixture(name="exit_code")
def _exit_code(run: Run) -> Callable[..., int]:
    """Return what gives the exit code of the console script."""
    return lambda *words: run("recipe", *words)[0]


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    assert json.loads(run("schema").stdout) == recipe_schema()
    assert run("schema", "--out", tmp_path / "s.json").exit_code == 0
    assert (tmp_path / "s.json").read_text() == run("schema").stdout


@pytest.mark.parametrize("words", [("schema", "--out"), ("new",)])
def test_a_pipe_is_refused_and_not_replaced(
    exit_code: Callable[..., int], tmp_path: Path, words: tuple[str, ...]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert exit_code(*words, str(pipe)) == 2
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["demo", "kawan-usaha-13b"])
def test_a_new_recipe_is_the_one_that_it_comes_from(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert run("new", path, "--from", name).exit_code == 0
    assert load_recipe(path) == load_recipe(find_recipe(name))
    assert "yaml-language-server" not in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_stays_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        run("new", path)
    assert path.read_text() == "mine"


def test_the_first_line_names_the_schema_that_lies_beside(tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yaml"):
        run("new", tmp_path / name, "--schema")
        first = (tmp_path / name).read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=recipe.schema.json"
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == recipe_schema()


def test_another_file_in_the_place_of_the_schema_stays(tmp_path: Path) -> None:
    (tmp_path / "recipe.schema.json").write_text("{}")
    with pytest.raises(UsageError, match="exists already"):
        run("new", tmp_path / "mine.yaml", "--schema")
    assert not (tmp_path / "mine.yaml").exists()
    assert (tmp_path / "recipe.schema.json").read_text() == "{}"


def test_what_is_shown_is_the_whole_recipe_with_marks() -> None:
    lines = run("show", "demo", "--set", "finetune.epochs=2").stdout.splitlines()
    assert "name: demo" in lines
    assert "  epochs: 2.0  # --set" in lines
    assert "  beta: 0.1  # default" in lines
    assert "      layers: [-1]  # default" not in lines


def test_what_is_shown_is_a_recipe_again(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(run("show", "kawan-usaha-13b").stdout)
    assert load_recipe(path) == load_recipe(find_recipe("kawan-usaha-13b"))


def test_a_program_gets_each_value_and_where_it_comes_from() -> None:
    shown = json.loads(run("show", "demo", "--set", "finetune.lora={r: 4}", "--json").stdout)
    assert shown["recipe"]["finetune"]["lora"]["r"] == 4
    assert shown["recipe"]["finetune"]["method"] == "sft"
    origins = shown["origins"]
    assert origins["name"] == "file"
    assert origins["finetune.seed"] == "default"
    assert origins["finetune.lora.r"] == "override"
    assert origins["edit.activations.0.activation"] == "file"
    assert origins["finetune.data.0.weight"] == "default"


def test_a_path_alone_says_the_file_of_its_source(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"finetune": {"data": "a.json"}}))
    origins = json.loads(run("show", path, "--json").stdout)["origins"]
    assert (origins["finetune.data.0.file"], origins["finetune.data.0.format"]) == (
        "file",
        "default",
    )


def test_a_wrong_recipe_is_refused_with_the_field(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("finetune: {epoch: 2}")
    with pytest.raises(RecipeError, match=r"finetune\.epoch: no such field"):
        run("show", path)


def test_the_exit_code_tells_wrong_words_from_a_failure(
    exit_code: Callable[..., int], tmp_path: Path
) -> None:
    assert exit_code("show", "demo") == 0
    assert exit_code("show", "no-such-recipe") == 2
    assert exit_code("show", "demo", "--set", "finetune.epochs=0") == 2
    assert exit_code("new", str(tmp_path / "none" / "r.yaml")) == 2
    assert exit_code("schema", "--out", "/proc/schema.json") == 1
