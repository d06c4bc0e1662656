"""Advice works: what an error, `--help`, a report or the docs tell to type is a real command."""

import shlex
from functools import cache

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from flows.cli import app
from tests.contracts.recommended_commands import ROOT, Recommended, recommended_commands


@pytest.fixture(scope="module")
def commands() -> list[Recommended]:
    return sorted({c for c in recommended_commands() if c.words != "…"}, key=str)


@cache
def program() -> TyperGroup:
    """Return the command line, made to do nothing."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    do_nothing(root)
    return root


def do_nothing(command: object) -> None:
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            do_nothing(each)
    else:
        assert isinstance(command, TyperCommand)
        command.callback = lambda **_: None


def refusal(words: str) -> str | None:
    """Return why the real command line refuses these words, None when it takes them.

    A command's bare name is a mention of it, and needs no arguments.
    """
    args = shlex.split(words.replace("[", "").replace("]", ""))
    if is_mention(program(), args):
        return None
    try:
        program().main(args, prog_name="kawan-usaha")
    except SystemExit as ended:
        return None if not ended.code else f"exit code {ended.code}"
    return None


def is_mention(command: object, args: list[str]) -> bool:
    """Tell whether the words are the name of a command."""
    if not isinstance(command, TyperGroup) or not args:
        return not args
    below = command.commands.get(args[0])
    return below is not None and is_mention(below, args[1:])


def test_recommended_commands_are_those_that_the_program_takes(
    commands: list[Recommended],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    refused = {
        str(command): f"{why}: {capsys.readouterr().err}"
        for command in commands
        if (why := refusal(command.words)) is not None
    }
    assert refused == {}


@pytest.mark.parametrize(
    "words",
    [
        "store prune --corrupt",
        "store prone",
        "prune",
        "publish --rollback TAG",
        "store list | verify",
        "data show file.json --record seven",
    ],
)
def test_wrong_advice_is_noticed(words: str) -> None:
    assert refusal(words) is not None


def test_advice_is_found_in_messages_help_and_docs(commands: list[Recommended]) -> None:
    found = {command.where for command in commands}
    assert {"tasks/core/pruning.py", "flows/commands/rebuild.py"} <= found
    assert {"README.md", "docs/runbook.md", "data/recipes/kawan-usaha-13b.yaml"} <= found
