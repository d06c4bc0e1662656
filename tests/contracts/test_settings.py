"""Every field of the recipe is documented; options and fields that a message names exist."""

from collections.abc import Iterator
from functools import cache

import pytest
import typer
from pydantic.fields import FieldInfo

from flows.cli import app
from tasks.core.recipe import Recipe
from tests.contracts.recommended_commands import ROOT, Recommended
from tests.contracts.recommended_settings import recommended_fields, recommended_options
from tests.recipe_fields import fields_below

NO_FIELDS = {"publish.publish", "deploy.1_port"}
"""A function by its module's name; the port of a process, whose name is filled in."""


def options(command: object) -> Iterator[str]:
    for parameter in getattr(command, "params", ()):
        yield from (*parameter.opts, *parameter.secondary_opts)
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


def is_module(name: str) -> bool:
    """Tell whether these are the last words of a module's name, such as `publish.origin`."""
    return any((ROOT / "tasks" / "core").glob(f"**/{name.replace('.', '/')}.py"))


@cache
def fields() -> set[str]:
    return {path for path, _ in fields_below(Recipe)}


def is_field(name: str) -> bool:
    return name in fields()


@cache
def known() -> set[str]:
    """Return our options, one of FastChat's, and that of processes of this project's own."""
    ours = options(typer.main.get_command(app))
    return {*ours, "--help", "--conv-template", "--settings"}


STYLES = "tasks/core/serving/page/look.py"  # what begins so there is a colour
DOCUMENTED = (ROOT / "docs" / "recipe.md").read_text()


@pytest.mark.parametrize(
    ("path", "info"), [*fields_below(Recipe)], ids=lambda value: str(value)[:40]
)
def test_every_field_has_a_title_a_description_and_a_line_in_the_docs(
    path: str, info: FieldInfo
) -> None:
    assert info.title
    assert info.description
    assert info.description.endswith(".")
    section, _, name = path.rpartition(".")
    below = DOCUMENTED.partition(f"## `{section or 'recipe'}`\n")[2].partition("\n## ")[0]
    assert f"| `{name}` |" in below
    assert info.description in below


@pytest.fixture(scope="module")
def named_options() -> set[Recommended]:
    return {each for each in recommended_options() if each.where != STYLES}


@pytest.fixture(scope="module")
def named_fields() -> set[Recommended]:
    found = {each for each in recommended_fields() if each.words not in NO_FIELDS}
    modules = {words for words in {each.words for each in found} if is_module(words)}
    return {each for each in found if each.words not in modules}


def test_recommended_options_are_those_of_some_command(named_options: set[Recommended]) -> None:
    assert sorted(str(each) for each in named_options if each.words not in known()) == []


def test_recommended_fields_are_those_of_the_recipe(named_fields: set[Recommended]) -> None:
    assert sorted(str(each) for each in named_fields if not is_field(each.words)) == []


@pytest.mark.parametrize("name", ["deploy.load_4bit", "finetune.lora.ranks", "evaluate.gate.max"])
def test_wrong_advice_is_noticed(name: str) -> None:
    assert not is_field(name)
    assert not is_module(name)
    assert f"--{name.rsplit('.', maxsplit=1)[-1].replace('_', '-')}" not in known()


def test_advice_of_servers_and_commands_is_found(
    named_options: set[Recommended], named_fields: set[Recommended]
) -> None:
    found = {(each.where, each.words) for each in named_options | named_fields}
    assert ("tasks/core/serving/launch/causes.py", "--load-8bit") in found
    assert ("tasks/core/serving/launch/startup.py", "deploy.startup_timeout_s") in found
    assert ("flows/commands/evaluate.py", "--against") in found
