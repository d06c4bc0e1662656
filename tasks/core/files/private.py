"""Files and directories that only their owner can read, because they hold secrets.

The invariant: a secret is never readable by others, not even while it is written. What others could
read before is closed to them with a warning in the log, because the secret may be known by now.
"""

import logging
import os
from pathlib import Path

from tasks.core.errors import UsageError
from tasks.core.files.durable import make_directory, write_atomically

logger = logging.getLogger(__name__)

_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
_OTHERS = 0o077


def write_private(path: Path, content: bytes | str) -> None:
    """Replace the content of path atomically, readable by its owner only from the first byte."""
    write_atomically(path, content, mode=_FILE_MODE)


def private_directory(path: Path) -> None:
    """Make path a directory that only its owner can enter; close one that exists already.

    Raises UsageError when it belongs to somebody else.
    """
    make_directory(path, mode=_DIRECTORY_MODE)
    keep_private(path)


def own_directory(path: Path) -> Path:
    """Return a directory in a place where others can write, such as /tmp; make it if missing.

    Raises UsageError when anybody but this user owns it or can enter it: somebody may have made it
    to read or change what is in it.
    """
    path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    info = path.lstat()
    if path.is_symlink() or info.st_uid != os.getuid() or info.st_mode & _OTHERS:
        raise UsageError(
            "A directory for locks and sockets is open to other users.",
            where=path,
            expected=f"owner {os.getuid()}, mode 0700",
            found=f"owner {info.st_uid}, mode {info.st_mode & 0o7777:04o}",
            next_step="Remove it, or `chmod 700` it if it is yours.",
        )
    return path


def keep_private(path: Path) -> None:
    """Close path to everybody but its owner, with a warning if it was open.

    Raises UsageError when it belongs to somebody else, who could open it again.
    """
    mode = path.stat().st_mode
    if not mode & _OTHERS:
        return
    try:
        path.chmod(mode & ~_OTHERS & 0o7777)
    except PermissionError as error:
        raise UsageError(
            "A secret is readable by others, and the file belongs to another user.",
            where=path,
            expected="permissions for its owner only",
            found=f"mode {mode & 0o7777:04o}",
            next_step=f"Let its owner run `chmod go= {path}`, or name another directory.",
        ) from error
    logger.warning(
        "%s was open to other users of this machine (mode %04o); it is closed now. "
        "If somebody else may have read a token in it, replace the token.",
        path,
        mode & 0o7777,
    )
