"""Colours and bars are for a terminal that wants them: not for a pipe, NO_COLOR or TERM=dumb.

The commands run on a real pseudo-terminal. NO_COLOR takes the colours away; bold and dim may stay.
"""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.models import tiny_llama

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m")

COMMAND = "import sys; sys.argv[0] = 'kawan-usaha'; from flows.cli import main; main()"
EVERY_HELP = """
from flows.cli import app
from flows.command_line.command_list import SUMMARIES
from typer.main import get_command
root = get_command(app)
for words in ([], *([name] for name in SUMMARIES)):
    try:
        root.main([*words, "--help"], prog_name="kawan-usaha")
    except SystemExit:
        pass
"""
PREFECT_LOG = """
from flows.terminal.run_log import run_shown
with run_shown("demo", quiet=False):
    import logging
    logging.getLogger("prefect.flow_runs").error("Finished in state Failed()")
    logging.getLogger("another.library").error("the disk is gone")
"""
ONE_BY_ONE = """
import json, os, sys
import flows.cli, typer.rich_utils
for place, script, *words in json.loads(sys.argv[1]):
    if os.fork() == 0:
        for file in range(3):
            os.dup2(place, file)
        os.close(place)
        sys.argv = ["-c", *words]
        exec(script, {"__name__": "__main__"})
        sys.exit()
    os.close(place)
    os.wait()
"""
"""Runs programs in forks, which are spared the imports that they have in common."""

CASES = {
    "the help of every command": (EVERY_HELP,),
    "wrong usage": (COMMAND, "merge"),
    "an error": (COMMAND, "rebuild", "dmeo"),
    "progress": (COMMAND, "download", "{model}", "out"),
    "Prefect's log": (PREFECT_LOG,),
}
Shown = dict[str, str]
Show = Callable[[str], Shown]


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Show]:
    """Show what each case shows on a terminal with a variable such as `NO_COLOR=1`, or on a pipe.

    Each of these is done once.
    """
    model = tiny_llama(tmp_path_factory.mktemp("models") / "m")
    programs = {
        case: [word.replace("{model}", str(model)) for word in words]
        for case, words in CASES.items()
    }

    @cache
    def show(where: str) -> Shown:
        name, _, value = where.partition("=")
        variables = {name: value} if value else {}
        opened = os.pipe if where == "pipe" else pty.openpty
        return shown_by(programs, opened, tmp_path_factory.mktemp("home"), **variables)

    yield show


def shown_by(
    programs: dict[str, list[str]],
    opened: Callable[[], tuple[int, int]],
    home: Path,
    **variables: str,
) -> Shown:
    """Return what each program shows, its output and errors together.

    Python itself is started with what they get, and with a place of its own to write to.
    """
    own, *places = [opened() for _ in (None, *programs)]
    told = [[place[1], *words] for place, words in zip(places, programs.values(), strict=True)]
    process = subprocess.Popen(
        [sys.executable, "-c", ONE_BY_ONE, json.dumps(told)],
        stdin=own[1],
        stdout=own[1],
        stderr=own[1],
        pass_fds=[place for _, place in places],
        env=environment(home, **variables),
        cwd=home,
    )
    for _, place in (own, *places):
        os.close(place)
    shown = {case: all_of(place) for case, (place, _) in zip(programs, places, strict=True)}
    assert all_of(own[0]) == ""
    assert process.wait() == 0
    return shown


def all_of(place: int) -> str:
    """Return what was written to the other end, until nobody has it open any more."""
    shown = b""
    while True:
        try:
            read = os.read(place, 65536)
        except OSError:  # on Linux, the end of a pseudo-terminal
            break
        if not read:
            break
        shown += read
    os.close(place)
    return shown.decode(errors="replace")


def environment(home: Path, **variables: str) -> dict[str, str]:
    left_out = ("NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "PYTEST_CURRENT_TEST")
    own = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**own, "TERM": "xterm-256color", "KAWAN_USAHA_HOME": str(home / "home"), **variables}


@pytest.mark.parametrize("case", CASES)
def test_a_terminal_gets_colours(case: str, show: Show) -> None:
    assert COLOUR.search(show("terminal")[case])


@pytest.mark.parametrize("case", CASES)
def test_no_color_takes_the_colours_away(case: str, show: Show) -> None:
    shown = show("NO_COLOR=1")[case]
    assert shown.strip()
    assert not COLOUR.search(shown)


@pytest.mark.parametrize("case", CASES)
def test_a_dumb_terminal_gets_no_escapes(case: str, show: Show) -> None:
    shown = show("TERM=dumb")[case]
    assert shown.strip()
    assert not ESCAPE.search(shown)


@pytest.mark.parametrize("case", CASES)
def test_a_pipe_gets_no_escapes(case: str, show: Show) -> None:
    shown = show("pipe")[case]
    assert shown
    assert not ESCAPE.search(shown)


def test_force_color_and_no_color_together_mean_no_colour(tmp_path: Path) -> None:
    help_of_all = {"help": [COMMAND, "--help"]}
    shown = shown_by(help_of_all, pty.openpty, tmp_path, FORCE_COLOR="1", NO_COLOR="1")["help"]
    assert shown.strip()
    assert not COLOUR.search(shown)
