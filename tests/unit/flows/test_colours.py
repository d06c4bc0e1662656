"""Colours and bars are for a terminal that wants them: not for a pipe, NO_COLOR or TERM=dumb.

The commands run on a real pseudo-terminal. NO_COLOR takes the colours away; bold and dim may stay.
"""

import json
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
ONE_BY_ONE = """
import atexit, gc, json, os, sys
atexit.register(lambda: (sys.stdout.flush(), os._exit(0)))  # to take all apart takes 0.1 s each
gc.disable()
import prefect.settings, tasks.core.hub.download.artifact
assert "typer" not in sys.modules  # which reads FORCE_COLOR when it is imported
gc.freeze()
for home, variables, programs in json.loads(sys.argv[1]):
    if os.fork() == 0:
        os.chdir(home)
        os.environ.update(variables)
        import flows.cli, typer.rich_utils
        for place, script, *words in programs:
            if os.fork() == 0:
                for file in range(3):
                    os.dup2(place, file)
                os.close(place)
                sys.argv = ["-c", *words]
                exec(script, {"__name__": "__main__"})
                sys.exit()
            os.close(place)
            os.wait()
        sys.exit()
    for place, *_ in programs:
        os.close(place)
    os.wait()
"""
"""Runs programs in forks, which are spared the imports that they have in common.

What is imported before the variables are set decides nothing: forks of one Python differ by them.
"""

CASES = ("the help of every command", "wrong usage", "an error", "progress", "Prefect's log")
PLACES = ("terminal", "pipe", "NO_COLOR=1", "TERM=dumb", "FORCE_COLOR=1 NO_COLOR=1")
Programs = dict[str, list[str]]
Shown = dict[str, str]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    """What each case shows on a terminal, on a pipe, and on terminals with variables set."""
    model = tiny_llama(tmp_path_factory.mktemp("models") / "m")
    programs = {where: programs_for(where, model) for where in PLACES}
    return shown_by(programs, tmp_path_factory.mktemp("homes"))


def programs_for(where: str, model: Path) -> Programs:
    """Return script and words of each case."""
    scripts = (
        [EVERY_HELP],
        [COMMAND, "merge"],
        [COMMAND, "rebuild", "dmeo"],
        [COMMAND, "download", str(model), "out"],
        [PREFECT_LOG],
    )
    programs = dict(zip(CASES, scripts, strict=True))
    return {CASES[0]: programs[CASES[0]]} if "FORCE_COLOR" in where else programs


def shown_by(programs: dict[str, Programs], root: Path) -> dict[str, Shown]:
    """Return what each program shows, its output and errors together.

    Python itself is started on a terminal of its own, which must stay empty.
    """
    opened = {
        where: [(os.pipe if where == "pipe" else pty.openpty)() for _ in cases]
        for where, cases in programs.items()
    }
    told = []
    for number, (where, cases) in enumerate(programs.items()):
        home = root / str(number)
        home.mkdir()
        variables = dict(word.split("=") for word in where.split() if "=" in word)
        variables["KAWAN_USAHA_HOME"] = str(home / "home")
        places = [writes for _, writes in opened[where]]
        scripts = [[place, *case] for place, case in zip(places, cases.values(), strict=True)]
        told.append((str(home), variables, scripts))
    own = pty.openpty()
    written_to = [own[1], *(writes for each in opened.values() for _, writes in each)]
    process = subprocess.Popen(
        [sys.executable, "-c", ONE_BY_ONE, json.dumps(told)],
        stdin=own[1],
        stdout=own[1],
        stderr=own[1],
        pass_fds=written_to,
        env=environment(),
        cwd=root,
    )
    for place in written_to:
        os.close(place)
    shown = {
        where: {case: all_of(reads) for case, (reads, _) in zip(cases, opened[where], strict=True)}
        for where, cases in programs.items()
    }
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


def environment() -> dict[str, str]:
    left_out = ("NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "PYTEST_CURRENT_TEST")
    own = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**own, "TERM": "xterm-256color"}


@pytest.mark.parametrize("case", CASES)
def test_a_terminal_gets_colours(case: str, shown: dict[str, Shown]) -> None:
    assert COLOUR.search(shown["terminal"][case])


@pytest.mark.parametrize("case", CASES)
def test_no_color_takes_the_colours_away(case: str, shown: dict[str, Shown]) -> None:
    plain = shown["NO_COLOR=1"][case]
    assert plain.strip()
    assert not COLOUR.search(plain)


@pytest.mark.parametrize("case", CASES)
def test_a_dumb_terminal_gets_no_escapes(case: str, shown: dict[str, Shown]) -> None:
    plain = shown["TERM=dumb"][case]
    assert plain.strip()
    assert not ESCAPE.search(plain)


@pytest.mark.parametrize("case", CASES)
def test_a_pipe_gets_no_escapes(case: str, shown: dict[str, Shown]) -> None:
    plain = shown["pipe"][case]
    assert plain
    assert not ESCAPE.search(plain)


def test_force_color_and_no_color_together_mean_no_colour(shown: dict[str, Shown]) -> None:
    plain = shown["FORCE_COLOR=1 NO_COLOR=1"]["the help of every command"]
    assert plain.strip()
    assert not COLOUR.search(plain)
