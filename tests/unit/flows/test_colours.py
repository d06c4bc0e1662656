"""Colours and bars are for a terminal that wants them: not for a pipe, NO_COLOR or TERM=dumb.

The commands run on a real pseudo-terminal. NO_COLOR takes the colours away; bold and dim may stay.
"""

import os
import pty
import re
import subprocess
import sys
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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "m")


def on_terminal(home: Path, script: str, *words: str, **variables: str) -> str:
    """Return what a Python script shows on a pseudo-terminal, its output and errors together."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(home, **variables),
        cwd=home,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            read = os.read(controller, 65536)
        except OSError:  # on Linux, the end of a pseudo-terminal
            break
        if not read:
            break
        shown += read
    os.close(controller)
    process.wait()
    return shown.decode(errors="replace")


def environment(home: Path, **variables: str) -> dict[str, str]:
    left_out = ("NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "PYTEST_CURRENT_TEST")
    own = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**own, "TERM": "xterm-256color", "KAWAN_USAHA_HOME": str(home / "home"), **variables}


def words_of(case: str, model: Path) -> tuple[str, ...]:
    return {
        "the help of every command": (EVERY_HELP,),
        "wrong usage": (COMMAND, "merge"),
        "an error": (COMMAND, "rebuild", "dmeo"),
        "progress": (COMMAND, "download", str(model), "out"),
        "Prefect's log": (PREFECT_LOG,),
    }[case]


CASES = (
    "the help of every command",
    "wrong usage",
    "an error",
    "progress",
    "Prefect's log",
)


@pytest.mark.parametrize("case", CASES)
def test_a_terminal_gets_colours(case: str, model: Path, tmp_path: Path) -> None:
    assert COLOUR.search(on_terminal(tmp_path, *words_of(case, model)))


@pytest.mark.parametrize("case", CASES)
def test_no_color_takes_the_colours_away(case: str, model: Path, tmp_path: Path) -> None:
    shown = on_terminal(tmp_path, *words_of(case, model), NO_COLOR="1")
    assert shown.strip()
    assert not COLOUR.search(shown)


@pytest.mark.parametrize("case", CASES)
def test_a_dumb_terminal_gets_no_escapes(case: str, model: Path, tmp_path: Path) -> None:
    shown = on_terminal(tmp_path, *words_of(case, model), TERM="dumb")
    assert shown.strip()
    assert not ESCAPE.search(shown)


@pytest.mark.parametrize("case", CASES)
def test_a_pipe_gets_no_escapes(case: str, model: Path, tmp_path: Path) -> None:
    script, *words = words_of(case, model)
    ended = subprocess.run(
        [sys.executable, "-c", script, *words],
        check=False,
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        cwd=tmp_path,
    )
    assert ended.stdout + ended.stderr
    assert not ESCAPE.search(ended.stdout + ended.stderr)


def test_force_color_and_no_color_together_mean_no_colour(tmp_path: Path, model: Path) -> None:
    shown = on_terminal(tmp_path, COMMAND, "--help", FORCE_COLOR="1", NO_COLOR="1")
    assert shown.strip()
    assert not COLOUR.search(shown)
