"""Where every exception of a command ends: a message, an exit code, the traceback in a log file.

The invariant: a traceback is printed only with `--debug` (or KAWAN_USAHA_DEBUG=1). Otherwise it is
written to a file, which the last line names. The project's own errors, whose message says what to
do, have none.
"""

import json
import logging
import os
import platform
import re
import select
import shlex
import sys
import threading
import traceback
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import typer

from flows.terminal.colours import takes_colours
from tasks.core.errors import KawanUsahaError, Unexpected
from tasks.core.home import home
from tasks.core.process.log import new_log
from tasks.core.process.stopping import stop_behind
from tasks.core.system.errors import system_error
from tasks.core.system.exhaustion import exhausted_memory
from tasks.explain import known_failure

_NO_MEMORY = b"kawan-usaha: This machine ran out of memory.\n"
DEBUG = "--debug"
DEBUG_VARIABLE = "KAWAN_USAHA_DEBUG"
READER_GONE = 141
"""The exit code of a program whose reader has gone: 128 + SIGPIPE."""
_LOG = "error"
_USER = re.compile(r"(\b[\w.+-]+://)[^\s/@'\"]+@")
_QUERY = re.compile(r"(\b[\w.+-]+://[^\s?'\"]+)\?[^\s'\"]+")


def hide_tracebacks() -> None:
    """Log the errors that do not end the command: in threads, in logging, in clean-up.

    Also shows characters that the terminal cannot encode as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # not a real stream
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    threading.excepthook = lambda failed: _log_ignored(failed.exc_value)
    sys.unraisablehook = lambda failed: _log_ignored(failed.exc_value)
    logging.raiseExceptions = False


def debug_enabled() -> bool:
    """Return whether tracebacks are to be printed."""
    return bool(os.environ.get(DEBUG_VARIABLE))


def _log_ignored(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        with suppress(Exception):  # there is nowhere left to report it
            if debug_enabled():
                traceback.print_exception(error)
            else:
                _log_traceback(error)


def report_error(error: BaseException) -> int:
    """Print why the command failed, for a person or as JSON; return its exit code."""
    try:
        return _report(error)
    except (MemoryError, ImportError) as failure:  # the modules that print it do not load
        if exhausted_memory(failure) is None:
            raise
        os.write(2, _NO_MEMORY)
        return 1


def _report(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return READER_GONE
    known = _known(error)
    if debug_enabled():
        traceback.print_exception(error)
    elif not isinstance(error, KawanUsahaError):
        known.next_step = " ".join(filter(None, (known.next_step, _traceback_hint(error))))
    try:
        _print(known)
    except BrokenPipeError:
        return READER_GONE
    except OSError:  # standard output is a full disk, or the terminal has closed
        with suppress(OSError):
            typer.echo(f"kawan-usaha: {known}", err=True)
    return known.exit_code


def flush_output() -> None:
    """Flush the output, or discard it if that fails: Python would fail on it at exit."""
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):
        _silence_output()


def _silence_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _known(error: BaseException) -> KawanUsahaError:
    """Return the error that explains the exception, whatever fails on the way."""
    try:
        known = known_failure(error)
    except Exception:  # noqa: BLE001 - the first failure is the one to report
        known = error if isinstance(error, KawanUsahaError) else system_error(error)
    return known or _unexpected(error)


def _unexpected(error: BaseException) -> Unexpected:
    _, notes = stop_behind(error)
    text = _without_secrets(traceback.format_exception_only(error)[0].strip())
    return Unexpected(
        "This is a bug in kawan-usaha: an error that it does not handle.",
        where=" ".join(["kawan-usaha", *_command(), *notes]),
        found=text if len(text) <= 500 else f"{text[:500]} …",
        next_step="Please report it with this message. What was finished is kept.",
    )


def _command() -> list[str]:
    return [word for word in sys.argv[1:] if not word.startswith("-")][:1]


def _print(error: KawanUsahaError) -> None:
    if "--json" in sys.argv:
        typer.echo(json.dumps(error.as_dict(), ensure_ascii=False, indent=1))
    elif takes_colours(sys.stderr):
        typer.secho(f"kawan-usaha: {error}", err=True, fg="red")
    else:
        typer.echo(f"kawan-usaha: {error}", err=True)


def _traceback_hint(error: BaseException) -> str:
    log = _log_traceback(error)
    shown = f"{DEBUG} prints it."
    return f"The traceback is in {log}; {shown}" if log else f"There is a traceback: {shown}"


def _log_traceback(error: BaseException) -> Path | None:
    """Return the file that the traceback was appended to, None where none can be written."""
    log = new_log(home() / "logs" / "commands", _LOG)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            command = _without_secrets(shlex.join(sys.argv))
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {command}\n")
            file.write(f"Python {platform.python_version()}, {platform.platform()}\n")
            file.write(_without_secrets("".join(traceback.format_exception(error))))
    except OSError:
        return None
    return log


def _without_secrets(text: str) -> str:
    """Return the text without the user, password and query of the URLs in it."""
    return _QUERY.sub(r"\1?…", _USER.sub(r"\1…@", text))


def _nobody_reads() -> bool:
    """Return whether the reader of the output, such as `head`, has exited."""
    poll = select.poll()
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):  # Typer wraps the others
        with suppress(OSError, ValueError):
            poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
