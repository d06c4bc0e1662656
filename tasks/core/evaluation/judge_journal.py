"""The verdicts that were paid for, one per line, so that a killed evaluation pays for none again.

Only one process writes the file, under the lock of its artifact. The invariant: a verdict is on the
disk before the next question is asked, and a line torn by a kill costs only that verdict.
"""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.evaluation.judge_question import OrderVerdict
from tasks.core.system.errors import names_path

_MAX_LINE_BYTES = 1 << 16


class JournalEntry(BaseModel):
    """The result of one question, identified by the digest of everything that was sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    verdict: OrderVerdict | None
    reason: str
    input_tokens: int
    output_tokens: int
    counted: bool


class JudgeJournal:
    """The journal of one judgement."""

    def __init__(self, path: Path) -> None:
        """Read the existing entries. Raises OSError."""
        self._path = path
        self._entries = {entry.question: entry for entry in _entries_in(path)}

    def find(self, question: str) -> JournalEntry | None:
        """Return the result of a question, None where it was not asked yet."""
        return self._entries.get(question)

    def add(self, entry: JournalEntry) -> None:
        """Append an entry; it is on the disk when the call returns. Raises OSError."""
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


def _entries_in(path: Path) -> list[JournalEntry]:
    """Return the readable entries, and truncate an unfinished last line."""
    found, whole_bytes = [], 0
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with names_path(path), file:
        while (line := file.readline(_MAX_LINE_BYTES)).endswith(b"\n"):
            whole_bytes = file.tell()
            try:
                found.append(JournalEntry.model_validate_json(line))
            except ValidationError:
                continue
    if line:
        os.truncate(path, whole_bytes)
    return found
