"""What the documentation tells to type can be typed: shell blocks, `make`, `python -m`, `prefect`.

`kawan-usaha` itself is in test_commands. Nothing is run.
"""

import importlib.util
import re
import shlex
import subprocess

import pytest
from cyclopts import CycloptsError
from prefect.cli._app import _app as prefect_command  # pinned: prefect>=3.8.8,<3.9

from tasks.core.home import PROJECT
from tests.contracts.test_links import PAGES

MAKEFILE = (PROJECT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z]+) +[?:]?=", MAKEFILE, re.MULTILINE)) | {"KEEP"}
PROGRAMS = {
    *("kawan-usaha", "make", "prefect", "python", "pip", "source", "export", "cd", "cp", "git"),
    *("openssl", "umask", "docker", "jq", "hf", "apt-get", "sudo"),
}
"""What may stand first in a line of a shell block."""

TEXT = {str(page.relative_to(PROJECT)): page.read_text() for page in PAGES}
BLOCKS = [
    (name, block)
    for name, text in TEXT.items()
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
INLINE = [(name, code) for name, text in TEXT.items() for code in re.findall(r"`([^`\n]+)`", text)]


def commands() -> list[tuple[str, list[str]]]:
    """Return the words of each command of a shell block, and of each piece of code in a line."""
    lines = [(name, line) for name, block in BLOCKS for line in block.splitlines()]
    inline = [(name, code) for name, code in INLINE if re.match(r"(make|prefect|python -m) ", code)]
    words = [
        (name, shlex.split(command, comments=True))
        for name, line in [*lines, *inline]
        for command in re.split(r"; ", line.partition(" # ")[0])
    ]
    return [(name, each) for name, each in words if each]


COMMANDS = commands()


def of(program: str) -> list[tuple[str, ...]]:
    return sorted({tuple(words) for _, words in COMMANDS if words[0] == program})


def test_there_are_blocks_and_commands_to_look_at() -> None:
    assert len(BLOCKS) > 20
    assert {"make", "prefect", "python", "kawan-usaha"} <= {words[0] for _, words in COMMANDS}


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=lambda value: value[:40])
def test_the_shell_takes_each_block(page: str, block: str) -> None:
    run = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
    assert run.returncode == 0, f"{page}: {run.stderr}"


def test_each_line_of_a_block_begins_with_a_known_program() -> None:
    strange = {
        (name, words[0])
        for name, block in BLOCKS
        for line in block.splitlines()
        if (words := shlex.split(line, comments=True)) and words[0] not in PROGRAMS
    }
    assert strange == set()


@pytest.mark.parametrize("words", of("make"), ids=" ".join)
def test_make_has_each_target_and_variable(words: tuple[str, ...]) -> None:
    for word in words[1:]:
        name, is_variable, _ = word.partition("=")
        assert name in (VARIABLES if is_variable else TARGETS)


@pytest.mark.parametrize("words", of("prefect"), ids=" ".join)
def test_prefect_takes_each_command(words: tuple[str, ...]) -> None:
    asked = [word for word in words[1:] if word != "--no-prompt"]
    try:
        prefect_command.parse_args(asked, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        # A command that is only mentioned has no arguments.
        assert "requires an argument" in str(error), error


@pytest.mark.parametrize("words", of("python"), ids=" ".join)
def test_python_finds_each_module(words: tuple[str, ...]) -> None:
    if words[1] == "-m" and words[2] != "tests.benchmarks.":
        assert importlib.util.find_spec(words[2]) is not None
