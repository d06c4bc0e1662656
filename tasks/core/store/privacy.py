"""Private artifacts: those that hold what people wrote, or were made of one that does.

The invariants: only their owner enters their directory, also while it is written, fetched or noted;
and none leaves this machine unless the environment says so. A stage that makes weights of texts
ends it (`Staging.holds_no_text`): no text is read off them again, and they are meant to be shared.
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
    """Return whether private artifacts go to the remote store too.

    Raises UsageError where the variable says something else than that.
    """
    said = os.environ.get(PRIVATE_VARIABLE, "").strip()
    if said not in ("", _SHARED):
        raise UsageError(
            "It is not said whether what people wrote may leave this machine.",
            where=PRIVATE_VARIABLE,
            expected=f"{_SHARED}, or nothing: then it stays here",
            found=said,
        )
    return said == _SHARED


def any_private(root: Path, names: Iterable[str]) -> bool:
    """Return whether one of these artifacts of a store is private; a damaged one counts as one."""
    return any(_is_private(root / name) for name in names)


def enclose(directory: Path, manifest: Manifest) -> None:
    """Make a directory for the files of this artifact, open to its owner only if it is private."""
    if manifest.private:
        private_directory(directory)
    else:
        make_directory(directory)


def close(directory: Path) -> int:
    """Let only its owner enter a directory; return the mode that it had."""
    before = directory.stat().st_mode & 0o7777
    directory.chmod(_MODE)
    return before


def _is_private(directory: Path) -> bool:
    try:
        found = read_manifest(directory) or read_manifest(freed_place(directory))
    except CorruptArtifact:
        return True
    return found is not None and found.private
