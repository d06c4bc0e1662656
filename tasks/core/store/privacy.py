"""Private artifacts: those that hold what people wrote, or are made from one that does.

The invariants: only their owner can read their directory, even while it is written, fetched or
freed; and none leaves this machine unless the environment allows it. Privacy ends with a stage that
turns texts into weights (`Staging.holds_no_text`): they hold no readable text and are meant to be
shared.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from tasks.core.errors import CorruptArtifact, UsageError
from tasks.core.files.durable import make_directory
from tasks.core.files.private import private_directory
from tasks.core.store.manifest import Manifest, freed_place, read_manifest

PRIVATE_VARIABLE = "KAWAN_USAHA_REMOTE_PRIVATE"
_SHARED = "share"
_MODE = 0o700


def may_leave() -> bool:
    """Return whether private artifacts are pushed to the remote store too.

    Raises UsageError where the variable has an unknown value.
    """
    said = os.environ.get(PRIVATE_VARIABLE, "").strip()
    if said not in ("", _SHARED):
        raise UsageError(
            "The variable does not say whether what people wrote may leave this machine.",
            where=PRIVATE_VARIABLE,
            expected=f"{_SHARED}, or nothing, so that it stays here",
            found=said,
        )
    return said == _SHARED


def any_private(root: Path, names: Iterable[str]) -> bool:
    """Return whether one of these artifacts is private; a damaged one counts as private."""
    return any(_is_private(root / name) for name in names)


def enclose(directory: Path, manifest: Manifest) -> None:
    """Make a directory for an artifact's files; if the artifact is private, for its owner only."""
    if manifest.private:
        private_directory(directory)
    else:
        make_directory(directory)


def close(directory: Path) -> int:
    """Make a directory accessible to its owner only; return its mode before."""
    before = directory.stat().st_mode & 0o7777
    directory.chmod(_MODE)
    return before


def _is_private(directory: Path) -> bool:
    try:
        found = read_manifest(directory) or read_manifest(freed_place(directory))
    except CorruptArtifact:
        return True
    return found is not None and found.private
