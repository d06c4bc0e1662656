"""Judgements of answers and corrections: JSON lines in a file that only its owner reads.

The invariant: a line is whole or not there, also when several processes write, and nothing is
written where the deployment did not ask for it.
"""

import fcntl
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tasks.core.files import fsync_directory
from tasks.core.private import keep_private
from tasks.core.serving.turns import Message
from tasks.core.system_errors import names_path

Verdict = Literal["up", "down"]


class Judgement(BaseModel):
    """What a person thinks of one answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: AwareDatetime
    model: str
    build: str | None = Field(description="Of the model, where the gateway tells it.")
    conversation: list[Message] = Field(description="Up to the question; the answer is beside it.")
    answer: str
    verdict: Verdict | None
    correction: str | None


def judgement(
    messages: Sequence[Message],
    *,
    model: str,
    build: str | None,
    verdict: Verdict | None,
    correction: str | None,
) -> Judgement:
    """Return the judgement of the last one of messages, an answer, given now."""
    *conversation, answer = messages
    return Judgement(
        time=datetime.now(UTC),
        model=model,
        build=build,
        conversation=conversation,
        answer=answer["content"],
        verdict=verdict,
        correction=correction,
    )


def keep(path: Path, judged: Judgement) -> None:
    """Add one line to the file, on the disk. What a power cut left of a line stays a line apart.

    Raises OSError, and UsageError for the file of another user.
    """
    line = f"{judged.model_dump_json()}\n".encode()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        keep_private(path)
        fcntl.flock(fd, fcntl.LOCK_EX)
        before = os.fstat(fd).st_size
        with names_path(path):
            is_torn = before > 0 and os.pread(fd, 1, before - 1) != b"\n"
        try:
            with names_path(path):
                _write_all(fd, b"\n" * is_torn + line)
                os.fsync(fd)
            fsync_directory(path.parent)
        except OSError:
            os.ftruncate(fd, before)  # half a line would spoil the next one too
            raise
    finally:
        os.close(fd)


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
