"""Help teaches: each argument and option says what it is for, and each command has an example."""

import re
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from flows.cli import app
from tests.contracts.test_commands import refusal

_EXAMPLES = re.compile(r"^\s*Examples?: (.*)\Z", re.MULTILINE | re.DOTALL)


def commands(group: TyperGroup, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Yield each command, also those of groups, by its words."""
    for name, command in group.commands.items():
        words = f"{path} {name}".strip()
        if isinstance(command, TyperGroup):
            yield from commands(command, words)
        elif not command.hidden:
            yield words, command


root = typer.main.get_command(app)
assert isinstance(root, TyperGroup)
COMMANDS = dict(commands(root))


def examples_of(command: TyperCommand) -> list[str]:
    found = _EXAMPLES.search(command.help or "")
    return [] if found is None else re.findall(r"`kawan-usaha ([^`]+)`", found[1])


@pytest.mark.parametrize("words", COMMANDS)
def test_each_argument_and_option_has_a_help_text(words: str) -> None:
    parameters = [p for p in COMMANDS[words].params if p.name != "help"]
    without = [p.name for p in parameters if not getattr(p, "help", None)]
    assert all(isinstance(p, TyperArgument | TyperOption) for p in parameters)
    assert without == []


@pytest.mark.parametrize("words", COMMANDS)
def test_help_ends_with_examples_that_the_command_takes(
    words: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = examples_of(COMMANDS[words])
    assert examples
    for example in examples:
        assert f"{example} ".startswith(f"{words} ")
        assert refusal(" ".join(example.split())) is None


def test_help_without_an_example_is_noticed() -> None:
    assert examples_of(TyperCommand("x", help="Do it.\n\nAs in `kawan-usaha x`.")) == []
