"""What a person sees of a run's log, on a terminal and in a file."""

import io
import logging
import re
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.command_line import output
from flows.terminal import views as terminal
from flows.terminal.colours import takes_colours
from flows.terminal.run_log import run_shown
from flows.terminal.views import CommandLines, LiveView, PlainLines, showing_heartbeat
from tasks.core.errors import DeltaMismatch
from tasks.progress import StageEvent, log_line

TOO_LATE_S = 30.0
CLOCK = r"\d\d:\d\d:\d\d"


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Line:
    """A record of a stage, as its task's logger makes it."""

    text: str
    event: StageEvent | None = None
    level: int = logging.INFO

    @property
    def record(self) -> logging.LogRecord:
        return logging.makeLogRecord({"stage_event": self.event, "levelno": self.level})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path))
    return tmp_path


def shown(view: terminal.View, *lines: Line) -> None:
    for line in lines:
        view.show(line.record, "merge", line.text)


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colours_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert takes_colours(Screen())
    monkeypatch.setenv("NO_COLOR", "")
    assert takes_colours(Screen())
    monkeypatch.setenv(*variable)
    assert not takes_colours(Screen())
    assert not takes_colours(io.StringIO())


def test_plain_lines_have_time_and_stage_and_nothing_else() -> None:
    stream = io.StringIO()
    shown(
        PlainLines(stream),
        Line("begins", StageEvent("begin")),
        Line("25%, 1.00 of 4.00 GB", StageEvent("progress", 1, 4)),
        Line("25%", StageEvent("bar", 1, 4)),
        Line("two\nlines"),
        Line("done, 4.00 GB in 3.0 s", StageEvent("end")),
    )
    lines = stream.getvalue().splitlines()
    assert [re.sub(CLOCK, "12:00:00", line) for line in lines] == [
        "12:00:00  merge          begins",
        "12:00:00  merge          25%, 1.00 of 4.00 GB",
        "12:00:00  merge",
        "two",
        "lines",
        "12:00:00  merge          done, 4.00 GB in 3.0 s",
    ]


def test_the_live_view_draws_progress_and_keeps_only_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with LiveView(screen) as view:
        shown(
            view,
            Line("begins", StageEvent("begin")),
            Line("25%, 1.00 of 4.00 GB", StageEvent("progress", 1, 4)),
            Line("still working, 8 s", StageEvent("alive")),
            Line("done, 4.00 GB in 3.0 s", StageEvent("end")),
        )
    text = screen.getvalue()
    kept = re.findall(rf"{CLOCK}.*?merge.*", text)
    assert len(kept) == 1
    assert "done, 4.00 GB" in kept[0]
    assert "still working" not in text


def test_a_command_that_says_nothing_shows_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "HEARTBEAT_AFTER_S", 0.05)
    stream = io.StringIO()
    with showing_heartbeat(CommandLines(PlainLines(stream), "edit")):
        until = time.monotonic() + TOO_LATE_S
        while not stream.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    assert re.match(rf"{CLOCK}  edit           still working, \d+ s\n", stream.getvalue())


def test_a_command_in_a_script_shows_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "PLAIN_LINE_EVERY_S", 0.0)
    with output.showing_progress("finetune model", "steps") as (report, speak):
        report(0, 4)
        report(4, 4)
        report(4, 4)
        speak("a line of the training")
    lines = [re.sub(CLOCK, "", line).split() for line in capsys.readouterr().err.splitlines()]
    assert [line[:2] for line in lines] == [
        ["finetune", "0%,"],
        ["finetune", "100%,"],
        ["finetune", "a"],
    ]


def test_the_chatter_of_libraries_is_in_the_log_file_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_shown("demo", quiet=False):
        log_line("a line of ours")
        logging.getLogger("prefect.task_runs").error("Finished in state Failed()")
        logging.getLogger("prefect.flow_runs").warning("a warning of Prefect's")
        logging.getLogger("another.library").warning("loaded a kernel")
        logging.getLogger("another.library").error("the disk is gone")
        warnings.warn("is_gradient_checkpointing is deprecated", FutureWarning, stacklevel=1)
    printed = capsys.readouterr().err
    (log,) = (home / "logs" / "demo").glob("rebuild-*.log")
    assert [line.split(maxsplit=2)[2] for line in printed.splitlines()] == [
        "demo: loading Prefect",
        "a line of ours",
        "the disk is gone",
    ]
    for text in ("a line of ours", "Finished in", "a kernel", "is_gradient_checkpointing"):
        assert text in log.read_text()


def test_the_error_that_the_command_ends_with_is_not_printed_before(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_shown("demo", quiet=False):
        logging.getLogger("prefect.task_runs").error("%s", DeltaMismatch("w differs."))
    assert "w differs." not in capsys.readouterr().err


def test_for_programs_only_errors_are_printed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_shown("demo", quiet=True):
        log_line("a line of ours")
        logging.getLogger("another.library").error("the disk is gone")
    assert capsys.readouterr().err.splitlines()[0].endswith("the disk is gone")


def test_logging_is_as_before_when_the_run_has_ended(home: Path) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger("tasks").level
    with pytest.raises(RuntimeError), run_shown("demo", quiet=True):
        raise RuntimeError
    assert (logging.getLogger().handlers, logging.getLogger("tasks").level) == before
