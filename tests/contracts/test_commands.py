"""Advice works: what an error, `--help`, a report or the docs tell to type is a real command."""

import shlex

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from flows.cli import app
from tests.contracts.recommended_commands import ROOT, Recommended, recommended_commands

COMMANDS = sorted({c for c in recommended_commands() if c.words != "…"}, key=str)


def refusal(words: str) -> str | None:
    """Return why the real command line refuses these words, None when it takes them.

    Nothing is run: the commands do nothing. A command's bare name is a mention of it, and needs no
    arguments.
    """
    args = shlex.split(words.replace("[", "").replace("]", ""))
    root = typer.main.get_command(app)
    if is_mention(root, args):
        return None
    try:
        root.main(args, prog_name="kawan-usaha")
    except SystemExit as ended:
        return None if not ended.code else f"exit code {ended.code}"
    return None


def is_mention(command: object, args: list[str]) -> bool:
    """Tell whether the words are the name of a command; every command is made to do nothing."""
    if isinstance(command, TyperGroup):
        found = {name: is_mention(each, args[1:]) for name, each in command.commands.items()}
        return not args or found.get(args[0], False)
    assert isinstance(command, TyperCommand)
    command.callback = lambda **_: None
    return not args


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_recommended_command_is_one_that_the_program_takes(
    command: Recommended, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    refused = refusal(command.words)
    assert refused is None, f"{refused}: {capsys.readouterr().err}"


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


def test_advice_is_found_in_messages_help_and_docs() -> None:
    found = {command.where for command in COMMANDS}
    assert {"tasks/core/pruning.py", "flows/commands/rebuild.py"} <= found
    assert {"README.md", "docs/runbook.md", "data/recipes/kawan-usaha-13b.yaml"} <= found
