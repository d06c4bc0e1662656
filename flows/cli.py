"""`kawan-usaha …`: the command line. It parses and dispatches, and has no logic of its own.

Exit codes: 0 done, 1 failed, 2 wrong usage or a wrong recipe, 130 stopped by Ctrl-C, 143 by
SIGTERM, 141 if the reader of the output has exited. Every error is printed as a message, never as a
traceback (`terminal/boundary.py`).
"""

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from flows.command_line.command_list import LazyGroup
from flows.terminal.boundary import (
    DEBUG,
    DEBUG_VARIABLE,
    READER_GONE,
    flush_output,
    hide_tracebacks,
    report_error,
)
from tasks.core.process.descriptors import allow_many_descriptors
from tasks.core.process.stopping import (
    StopDeadline,
    Stopped,
    raised_when_stopped,
    stop_behind,
    stop_in_time,
)


class _Commands(LazyGroup):
    """The commands, with `--debug` before or after their names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; `--debug`, which every command takes, is moved to the front."""
        own = args[: args.index("--")] if "--" in args else args
        if DEBUG in own:
            args.remove(DEBUG)
            args.insert(0, DEBUG)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Typer would mistake some system errors for a closed terminal."""
        try:
            return super().invoke(ctx)
        except (EOFError, OSError) as error:
            raise _Failed from error


class _Failed(Exception):
    """Carries an exception past Typer, which would take it for a closed terminal or pipe."""


app = typer.Typer(
    name="kawan-usaha",
    cls=_Commands,
    help="The lifecycle of a language model for small businesses: download, merge a delta, edit "
    "the architecture, fine-tune, evaluate, publish and serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _options(
    *,
    debug: Annotated[
        bool,
        typer.Option(
            DEBUG, envvar=DEBUG_VARIABLE, help="Print the traceback of an error, for a bug report."
        ),
    ] = False,
) -> None:
    os.environ[DEBUG_VARIABLE] = "1" if debug else ""


_RESUMES = "What is finished is kept; the same command resumes from there."


def main() -> None:
    """Run the command line and exit with its code."""
    hide_tracebacks()
    allow_many_descriptors()
    try:
        with stop_in_time() as watch, raised_when_stopped():
            code = _run(watch)
            flush_output()
            sys.exit(code)
    except Exception as error:  # noqa: BLE001 - such as no memory for the watch
        code = report_error(error)
        flush_output()
        sys.exit(code)


def _run(watch: StopDeadline) -> int:
    """Run the command, report an error, and return the exit code."""
    try:
        app(standalone_mode=True)
    except BaseException as end:  # noqa: BLE001 - each way to end has its code
        return _ended(end, watch)
    return 0


def _ended(end: BaseException, watch: StopDeadline) -> int:
    stop, notes = stop_behind(end)  # Typer makes a SystemExit of a KeyboardInterrupt
    if stop is not None:
        watch.for_good = True  # the exit functions of Python and Prefect may hang too
        if isinstance(end, Exception):
            notes.append(f"Cleaning up failed ({_behind(end)!r}).")
        with suppress(OSError):  # the terminal may be closed
            typer.echo(f"\nkawan-usaha: {' '.join([f'{stop}.', *notes, _RESUMES])}", err=True)
        return stop.exit_code
    if isinstance(end, SystemExit):
        if isinstance(end.__context__, BrokenPipeError):  # while printing help
            return READER_GONE
        raise end
    try:
        return report_error(_behind(end))
    except Stopped as stopped:  # while measuring the store for the advice on a full disk
        return _ended(stopped, watch)


def _behind(end: BaseException) -> BaseException:
    return end.__cause__ if isinstance(end, _Failed) and end.__cause__ else end
