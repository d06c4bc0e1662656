"""Where everything lives on this machine: what is built and run, and the project itself."""

import os
from pathlib import Path

from tasks.core.errors import UsageError

ENVIRONMENT_VARIABLE = "KAWAN_USAHA_HOME"
PROJECT = Path(__file__).parents[2]
"""The root of the project, from which its child processes import it."""


def home() -> Path:
    """Return the absolute home directory: KAWAN_USAHA_HOME, or ~/.kawan-usaha."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or Path.home() / ".kawan-usaha").absolute()


def private_directory(path: Path) -> Path:
    """Return the directory, made if need be. Raises UsageError unless it is this user's alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = path.lstat()
    if not path.is_dir() or path.is_symlink() or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise UsageError(
            "A directory for locks and sockets is not this user's alone.",
            where=path,
            expected=f"owner {os.getuid()}, mode 0700",
            found=f"owner {info.st_uid}, mode {info.st_mode & 0o7777:04o}",
            next_step="Remove it, or `chmod 700` it if it is yours.",
        )
    return path
