"""The file in which a child process of ours leaves its answer, or the error that it ended with.

A child may be killed while it writes, run out of disk space, or be of another version. The
invariant: whatever the file holds, the parent gets a value or a KawanUsahaError that names it.
"""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from tasks.core.errors import KawanUsahaError

_Kind = TypeVar("_Kind", bound=BaseModel)
_Told = TypeAdapter(dict[str, str])


def read_answer(content: bytes | Path, kind: type[_Kind], *, error: type[KawanUsahaError]) -> _Kind:
    """Parse an answer. Raises error for anything else."""
    where = content if isinstance(content, Path) else None
    try:
        raw = content.read_bytes() if isinstance(content, Path) else content
        return kind.model_validate_json(raw)
    except (OSError, ValidationError) as cause:
        raise error(
            "A process succeeded, but its answer cannot be read.",
            where=where,
            expected=kind.__name__,
            found=_first_line(cause),
            next_step="Run again. If it happens again, the disk is failing, or another version of "
            "the program answered.",
        ) from cause


def error_in(raw: bytes | str) -> KawanUsahaError | None:
    """Parse `{"error": KawanUsahaError.as_dict()}`; return None for anything else."""
    try:
        told = _Told.validate_python(json.loads(raw)["error"])
        return KawanUsahaError.from_dict(told) if {"error", "what"} <= told.keys() else None
    except (ValueError, TypeError, KeyError, RecursionError):  # ValidationError is a ValueError
        return None


def error_left_in(path: Path) -> KawanUsahaError | None:
    """Return the error that a process left in a file, None where it left none."""
    try:
        return error_in(path.read_bytes())
    except OSError:
        return None


def _first_line(cause: Exception) -> str:
    return (str(cause).splitlines() or [type(cause).__name__])[0]
