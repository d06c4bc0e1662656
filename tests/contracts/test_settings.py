"""Advice works: the option or field of the recipe that a message names is a real one."""

from collections.abc import Iterator

import pytest
import typer
from pydantic import BaseModel

from flows.cli import app
from tasks.core.recipe import Recipe
from tests.contracts.recommended_commands import Recommended
from tests.contracts.recommended_settings import recommended_fields, recommended_options

NO_FIELDS = {"publish.publish", "deploy.1_port"}
"""A function by its module's name; the port of a process, whose name is filled in."""


def options(command: object) -> Iterator[str]:
    for parameter in getattr(command, "params", ()):
        yield from (*parameter.opts, *parameter.secondary_opts)
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


def is_field(name: str) -> bool:
    model: type[BaseModel] | None = Recipe
    for part in name.split("."):
        field = model.model_fields.get(part) if model is not None else None
        if field is None:
            return False
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        model = inner[0] if inner else None
    return True


KNOWN = {
    *options(typer.main.get_command(app)),
    "--help",
    "--conv-template",
    "--settings",
}  # the last are FastChat's, and that of processes of this project's own
STYLES = "tasks/core/serving/page/look.py"  # what begins so there is a colour
OPTIONS = sorted({each for each in recommended_options() if each.where != STYLES}, key=str)
FIELDS = sorted({f for f in recommended_fields() if f.words not in NO_FIELDS}, key=str)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_recommended_option_is_one_of_some_command(option: Recommended) -> None:
    assert option.words in KNOWN


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_recommended_field_is_one_of_the_recipe(field: Recommended) -> None:
    assert is_field(field.words)


@pytest.mark.parametrize("name", ["deploy.load_4bit", "finetune.lora.ranks", "evaluate.gate.max"])
def test_wrong_advice_is_noticed(name: str) -> None:
    assert not is_field(name)
    assert f"--{name.rsplit('.', maxsplit=1)[-1].replace('_', '-')}" not in KNOWN


def test_advice_of_servers_and_commands_is_found() -> None:
    found = {(each.where, each.words) for each in [*OPTIONS, *FIELDS]}
    assert ("tasks/core/serving/launch/causes.py", "--load-8bit") in found
    assert ("tasks/core/serving/launch/startup.py", "deploy.startup_timeout_s") in found
    assert ("flows/commands/evaluate.py", "--against") in found
