"""Reading lines from a child's pipe without a thread, and without waiting for its descendants.

The invariant: every byte that was written before the pipe closed is in one of the lines.
"""

import codecs
import io
import os
import selectors
import subprocess
import time
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 1 << 16
_LONGEST_LINE = 1 << 16
_REST_WITHIN_S = 5.0


class LinePipe:
    """The standard output of a child, as lines of text."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        if child.stdout is None:
            raise ValueError("the child must be started with stdout=PIPE")
        self._pipe = child.stdout
        self._decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8")("replace"), translate=True
        )
        self._begun = ""
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)

    def read(self, wait_s: float) -> list[str]:
        """Return the lines that have arrived, waiting up to wait_s for the first byte."""
        if not self._open:
            time.sleep(wait_s)
            return []
        if not self._selector.select(wait_s):
            return []
        data = os.read(self._pipe.fileno(), _CHUNK_BYTES)
        self._open = bool(data)
        *lines, self._begun = (self._begun + self._decoder.decode(data, final=not data)).split("\n")
        if self._begun and (not data or len(self._begun) > _LONGEST_LINE):
            lines.append(self._begun)
            self._begun = ""
        return lines

    def read_rest(self) -> list[str]:
        """Return all lines up to the end of the pipe.

        If an unknown process still holds the pipe open after some seconds, what is in it is all.
        """
        lines: list[str] = []
        until = time.monotonic() + _REST_WITHIN_S
        while self._open and time.monotonic() < until:
            lines += self.read(0.1)
        if self._open:
            lines += self.read(0.0)  # a chunk is all that a pipe holds
            lines += [self._begun] if self._begun else []
            self._begun = ""
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._selector.close()
        self._pipe.close()
