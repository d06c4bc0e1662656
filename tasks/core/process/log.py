"""Log files: the complete output of a stage's programs, each in a file under <home>/logs.

Also rotates the files that a service appends to for as long as it lives. The invariant: a log that
cannot be written, for example on a full disk, never fails the work.
"""

import logging
import shlex
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

_log = logging.getLogger(__name__)

KEPT_LOGS = 20
"""How many logs of one name a directory keeps."""
LONG_BYTES = 1_000_000
"""Above this size a file that is appended to is rotated."""


def new_log(directory: Path, name: str) -> Path:
    """Return the file for a new log, and remove the oldest of this name.

    Logs dated in the future, from before the clock was set back, count as the oldest.
    """
    new = directory / f"{name}-{datetime.now():%Y%m%d-%H%M%S}.log"
    with suppress(OSError):
        logs = sorted(directory.glob(f"{name}-*.log"), key=lambda log: (log <= new, log))
        for old in logs[: -(KEPT_LOGS - 1)]:
            old.unlink()
    return new


def bounded(path: Path) -> Path:
    """Return the path of a file to append to, moved to `<name>.1` first if it is too long."""
    with suppress(OSError):
        if path.stat().st_size > LONG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    return path


class OutputLog:
    """Appends the lines of a program to a file for as long as that works; None: no file."""

    def __init__(self, file: Path | None, argv: Sequence[str]) -> None:
        self._path, self._argv = file, argv
        self._open: TextIO | None = None

    def write(self, line: str) -> None:
        """Append one line."""
        if self._open is not None:
            try:
                self._open.write(line + "\n")
            except OSError as error:
                self._give_up(error)

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._open = self._path.open("a", 1, encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                self._give_up(error)
        self.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {shlex.join(self._argv)}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._open is not None:
            with suppress(OSError):
                self._open.close()

    def _give_up(self, error: OSError) -> None:
        _log.warning(
            "The log %s cannot be written: %s. The work continues without it.", self._path, error
        )
        opened, self._open = self._open, None
        if opened is not None:
            with suppress(OSError):
                opened.close()
