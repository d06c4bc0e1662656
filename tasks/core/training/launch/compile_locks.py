"""Locks that a killed compiler run left behind.

torch compiles DeepSpeed's parts under a lock file that it removes at the end. If the process is
killed in between, the file stays, and every later training would wait for it silently and forever.
The holder keeps the file open, so a lock that no process has open is abandoned. Only this machine's
processes are visible: a cache directory shared by several machines at once is not covered.
Source: torch/utils/file_baton.py.
"""

import logging
import os
from pathlib import Path

import psutil

from tasks.core.files.locks import locked

_log = logging.getLogger(__name__)

_SWEEP = ".kawan-usaha-sweep"
_WAIT_S = 60.0


def release_abandoned_locks(cache: Path | None = None) -> tuple[Path, ...]:
    """Remove the locks that no process has open, and return them.

    cache: by default torch's own cache of compiled code (TORCH_EXTENSIONS_DIR).
    """
    root = cache or Path(os.environ.get("TORCH_EXTENSIONS_DIR") or _of_torch())
    if not _locks_below(root):
        return ()
    # One at a time: another launch may remove the same lock, whose place a living one then takes.
    with locked(root / _SWEEP, "removes abandoned locks of compilers", wait_s=_WAIT_S):
        abandoned = tuple(path for path in _locks_below(root) if not _is_open(path))
        for path in abandoned:
            _log.warning("Removed the lock of a compiler run that was killed: %s", path)
            path.unlink(missing_ok=True)
    return abandoned


def _locks_below(root: Path) -> list[Path]:
    return [path for path in root.rglob("lock") if path.is_file()]


def _of_torch() -> str:
    from torch.utils.cpp_extension import get_default_build_root

    return get_default_build_root()


def _is_open(path: Path) -> bool:
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return True  # its compiler has removed it in between
    for process in psutil.process_iter():
        try:
            opened = list(Path(f"/proc/{process.pid}/fd").iterdir())
        except OSError:  # another user's process, or one that has ended
            continue
        for descriptor in opened:
            try:
                found = descriptor.stat()
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False
