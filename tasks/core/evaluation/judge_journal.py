"""The verdicts that were paid for, a line each, so that an evaluation that was killed asks for none
again.

The caller alone writes the file, under the lock of its artifact. The invariant: a verdict is on the
disk before the next question is asked, and a line that a kill has torn costs that verdict only.
"""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.evaluation.judge_words import Verdict
from tasks.core.system.errors import names_path

_MAX_LINE_BYTES = 1 << 16


class Entry(BaseModel):
    """What one question brought, known by the digest of everything that was asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    verdict: Verdict | None
    reason: str
    input_tokens: int
    output_tokens: int
    counted: bool


class Journal:
    """The file of one judgement."""

    def __init__(self, path: Path) -> None:
        """Read what is there. Raises OSError."""
        self._path = path
        self._entries = {entry.question: entry for entry in _entries_in(path)}

    def find(self, question: str) -> Entry | None:
        """Return what the question brought, None where it was not asked yet."""
        return self._entries.get(question)

    def add(self, entry: Entry) -> None:
        """Keep an entry; it is on the disk when the call returns. Raises OSError."""
        line = f"{entry.model_dump_json()}\n".encode()
        with names_path(self._path), self._path.open("ab") as file:
            before = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), before)
                raise
        self._entries[entry.question] = entry


def _entries_in(path: Path) -> list[Entry]:
    """Return what can be read, and cut off a line without an end: the next one begins there."""
    found, whole_bytes = [], 0
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with names_path(path), file:
        while (line := file.readline(_MAX_LINE_BYTES)).endswith(b"\n"):
            whole_bytes = file.tell()
            try:
                found.append(Entry.model_validate_json(line))
            except ValidationError:
                continue
    if line:
        os.truncate(path, whole_bytes)
    return found
