"""Checkpoints that are whole or do not count, and what a training must have in common with them.

A checkpoint directory is whole once the marker in it exists, which is written last, after all
other bytes have reached the disk. The invariant: a training goes on from a checkpoint only if all
that decides its bits (`Identity`) is what it was.
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
"""How the states in a checkpoint are divided: DeepSpeed's own part fits no other."""
PORTABLE = "portable.safetensors"
"""The same states whole, for any other division; see `portable`."""
_IDENTITY = "identity.json"
_PREFIX = "checkpoint-"

Identity = Mapping[str, JsonValue]


def mark_whole(checkpoint: Path) -> None:
    """Declare a checkpoint whole. To be called when every process has written its part."""
    fsync_tree(checkpoint)
    write_atomically(checkpoint / MARKER, json.dumps({"step": step_of(checkpoint)}))
    fsync_directory(checkpoint.parent)


def last_whole(directory: Path) -> Path | None:
    """Return the whole checkpoint with the most steps, None if there is none."""
    whole = [path for path in _checkpoints(directory) if (path / MARKER).exists()]
    return max(whole, key=step_of, default=None)


def whole_state(directory: Path) -> list[Path]:
    """Return what another machine goes on from: the last whole checkpoint, and whose it is first.

    Empty when there is none.
    """
    last = last_whole(directory)
    return [] if last is None else [directory / _IDENTITY, last]


def prune(directory: Path, keep: int) -> None:
    """Remove all whole checkpoints but the last `keep`, and every one that is not whole.

    The marker goes first, on the disk too, so that a checkpoint that is half removed is not taken
    for whole.
    """
    whole = sorted((p for p in _checkpoints(directory) if (p / MARKER).exists()), key=step_of)
    kept = whole[max(0, len(whole) - keep) :]
    for path in set(_checkpoints(directory)) - set(kept):
        take_back(path / MARKER)
        shutil.rmtree(path)


def remove_work(work: Path) -> None:
    """Remove the work of a training that is done. Half of it holds no checkpoint that counts."""
    prune(work / CHECKPOINTS, keep=0)
    shutil.rmtree(work)


def fits(checkpoint: Path, division: str) -> bool:
    """Return whether DeepSpeed's own part of a checkpoint fits this division of the states."""
    return (checkpoint / DIVISION).read_text() == division


def can_go_on(checkpoint: Path, division: str) -> bool:
    """Return whether a training with this division of the states goes on from a checkpoint."""
    return fits(checkpoint, division) or (checkpoint / PORTABLE).exists()


def step_of(checkpoint: Path) -> int:
    """Return the number of steps that a checkpoint was written after."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def adopt(directory: Path, identity: Identity, outcome: Path) -> tuple[str, ...]:
    """Make directory the checkpoints of a training with this identity; return what differed.

    When something differs from the training that wrote the checkpoints there, they are removed, and
    so is its outcome, before the directory has its new name: the training starts anew.
    """
    make_directory(directory)
    file = directory / _IDENTITY
    wanted = dict(identity)
    found = _identity_in(file)
    if found == wanted:
        return ()
    take_back(outcome)
    file.unlink(missing_ok=True)
    prune(directory, keep=0)
    write_atomically(file, canonical_json(identity))
    if found is None:
        return ()
    return tuple(sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k)))


def _identity_in(file: Path) -> Identity | None:
    """Return the identity on record; none of its fields where the record is damaged."""
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _checkpoints(directory: Path) -> list[Path]:
    return [path for path in matching(directory, f"{_PREFIX}*") if path.is_dir()]
