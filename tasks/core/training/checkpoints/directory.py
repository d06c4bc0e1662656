"""The directory of a training's checkpoints: which of them are whole, and who may resume from them.

A checkpoint is whole once its marker exists, which is written last, after all other bytes have
reached the disk. The invariant: a training resumes from a checkpoint only if everything that
decides the adapter's bits (`Identity`) is unchanged.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from tasks.core.files.durable import (
    fsync_directory,
    fsync_tree,
    make_directory,
    take_back,
    write_atomically,
)
from tasks.core.files.listing import matching
from tasks.core.keys import canonical_json

CHECKPOINTS = "checkpoints"  # in the work of a training
MARKER = "whole.json"
DIVISION = "division.txt"
"""How the state in a checkpoint is divided; DeepSpeed's own part fits only that division."""
PORTABLE = "portable.safetensors"
"""The same state undivided, for any other division; see `portable`."""
_IDENTITY = "identity.json"
_PREFIX = "checkpoint-"

Identity = Mapping[str, JsonValue]


def mark_whole(checkpoint: Path) -> None:
    """Mark a checkpoint whole, once every process has written its part."""
    fsync_tree(checkpoint)
    write_atomically(checkpoint / MARKER, json.dumps({"step": step_of(checkpoint)}))
    fsync_directory(checkpoint.parent)


def last_whole(directory: Path) -> Path | None:
    """Return the whole checkpoint with the most steps; None without one."""
    whole = [path for path in _checkpoints(directory) if (path / MARKER).exists()]
    return max(whole, key=step_of, default=None)


def whole_state(directory: Path) -> list[Path]:
    """Return what another machine resumes from: the identity, then the last whole checkpoint.

    Empty without one.
    """
    last = last_whole(directory)
    return [] if last is None else [directory / _IDENTITY, last]


def prune_checkpoints(directory: Path, keep: int) -> None:
    """Remove all but the last `keep` whole checkpoints, and every one that is not whole.

    The marker is removed first and synced, so that a half-removed checkpoint never counts as whole.
    """
    whole = sorted((p for p in _checkpoints(directory) if (p / MARKER).exists()), key=step_of)
    kept = whole[max(0, len(whole) - keep) :]
    for path in set(_checkpoints(directory)) - set(kept):
        take_back(path / MARKER)
        shutil.rmtree(path)


def remove_work(work: Path) -> None:
    """Remove the work of a finished training; half removed, it has no whole checkpoint."""
    prune_checkpoints(work / CHECKPOINTS, keep=0)
    shutil.rmtree(work)


def has_division(checkpoint: Path, division: str) -> bool:
    """Return whether DeepSpeed's own part of a checkpoint fits this division of the state."""
    return (checkpoint / DIVISION).read_text() == division


def can_resume(checkpoint: Path, division: str) -> bool:
    """Return whether a training with this division of the state can resume from a checkpoint."""
    return has_division(checkpoint, division) or (checkpoint / PORTABLE).exists()


def step_of(checkpoint: Path) -> int:
    """Return the number of steps after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def adopt(directory: Path, identity: Identity, outcome: Path) -> tuple[str, ...]:
    """Claim the directory for a training with this identity; return the names that differ.

    If anything differs from the training that wrote the checkpoints there, they and its outcome are
    removed before the new identity is written: the training starts over.
    """
    make_directory(directory)
    file = directory / _IDENTITY
    wanted = dict(identity)
    found = _identity_in(file)
    if found == wanted:
        return ()
    take_back(outcome)
    file.unlink(missing_ok=True)
    prune_checkpoints(directory, keep=0)
    write_atomically(file, canonical_json(identity))
    if found is None:
        return ()
    return tuple(sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k)))


def _identity_in(file: Path) -> Identity | None:
    """Return the recorded identity; an empty one if the record is damaged."""
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _checkpoints(directory: Path) -> list[Path]:
    return [path for path in matching(directory, f"{_PREFIX}*") if path.is_dir()]
