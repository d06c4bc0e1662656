"""Where exceptions end: words for a person, an exit code for a shell, the traceback in a log.

The invariant: no traceback reaches a person who has not asked for it with `--debug` (or with
KAWAN_USAHA_DEBUG=1). One that is not shown is in a file, and the last line names it, unless the
error is one of the project's own, which says by itself what to do.
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

from tasks.core.errors import DiskFull, KawanUsahaError, Unexpected
from tasks.core.process.log import new_log
from tasks.core.process.stopping import stop_behind
from tasks.core.system.errors import system_error
from tasks.core.system.exhaustion import exhausted_memory

_NO_MEMORY = b"kawan-usaha: This machine ran out of memory.\n"
DEBUG = "--debug"
DEBUG_VARIABLE = "KAWAN_USAHA_DEBUG"
READER_GONE = 141
"""The exit code of a program whose output nobody reads any more: 128 + SIGPIPE."""
_LOG = "error"
_USER = re.compile(r"(\b[\w.+-]+://)[^\s/@'\"]+@")
_QUERY = re.compile(r"(\b[\w.+-]+://[^\s?'\"]+)\?[^\s'\"]+")


def keep_tracebacks_off() -> None:
    """Keep off the terminal what ends no command: failures of threads, of logging, of clean-up.

    They go into a log. Output that the terminal cannot show is shown with escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # not a real stream
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    threading.excepthook = lambda failed: _passed_over(failed.exc_value)
    sys.unraisablehook = lambda failed: _passed_over(failed.exc_value)
    logging.raiseExceptions = False


def debugs() -> bool:
    """Return whether tracebacks are wanted."""
    return bool(os.environ.get(DEBUG_VARIABLE))


def _passed_over(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        with suppress(Exception):  # there is nobody left to tell
            if debugs():
                traceback.print_exception(error)
            else:
                _kept(error)


def told(error: BaseException) -> int:
    """Tell the person or program at the other end how the command failed; return its exit code."""
    try:
        return _told(error)
    except (MemoryError, ImportError) as failure:  # not even what tells it can be loaded
        if exhausted_memory(failure) is None:
            raise
        os.write(2, _NO_MEMORY)
        return 1


def _told(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return READER_GONE
    known = _known(error)
    if debugs():
        traceback.print_exception(error)
    elif not isinstance(error, KawanUsahaError):
        known.next_step = " ".join(filter(None, (known.next_step, _where_kept(error))))
    try:
        _print(known)
    except BrokenPipeError:
        return READER_GONE
    except OSError:  # a full disk takes no JSON, a terminal that has ended nothing
        with suppress(OSError):
            typer.echo(f"kawan-usaha: {known}", err=True)
    return known.exit_code


def settle_output() -> None:
    """Write what is still to be written, or let it go nowhere: Python fails on it at its end."""
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
    """Return what the exception means, whatever goes wrong in finding it out."""
    try:
        from tasks.explain import explained  # which may itself find no memory

        known = explained(error)
        if isinstance(known, DiskFull):
            from tasks.core.home import home
            from tasks.core.pruning import with_advice

            known = with_advice(known, home())
    except Exception:  # noqa: BLE001 - the failure that is told is the first one
        known = error if isinstance(error, KawanUsahaError) else system_error(error)
    return known or _unexpected(error)


def _unexpected(error: BaseException) -> Unexpected:
    _, notes = stop_behind(error)
    text = _without_secrets(traceback.format_exception_only(error)[0].strip())
    return Unexpected(
        "This is a fault of kawan-usaha: an error that it does not account for.",
        where=" ".join(["kawan-usaha", *_command(), *notes]),
        found=text if len(text) <= 500 else f"{text[:500]} …",
        next_step="Please report it, with what is said here. What was finished is kept.",
    )


def _command() -> list[str]:
    return [word for word in sys.argv[1:] if not word.startswith("-")][:1]


def _print(error: KawanUsahaError) -> None:
    if "--json" in sys.argv:
        typer.echo(json.dumps(error.as_dict(), ensure_ascii=False, indent=1))
    else:
        typer.secho(f"kawan-usaha: {error}", err=True, fg="red" if sys.stderr.isatty() else None)


def _where_kept(error: BaseException) -> str:
    log = _kept(error)
    shown = f"the option {DEBUG} shows it at once."
    return f"The traceback is in {log}; {shown}" if log else f"There is a traceback: {shown}"


def _kept(error: BaseException) -> Path | None:
    """Return the file that the traceback was appended to, None where none can be written."""
    from tasks.core.home import home

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
    """Return the text without what a URL in it may tell: a user, a password, a signature."""
    return _QUERY.sub(r"\1?…", _USER.sub(r"\1…@", text))


def _nobody_reads() -> bool:
    """Return whether the reader of the output, such as `head`, has gone."""
    poll = select.poll()
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):  # Typer wraps the others
        with suppress(OSError, ValueError):
            poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
