"""Errors of the operating system, explained: space, permissions, memory, descriptors, threads.

Used in the flow's process and in the processes that it starts. An error is recognized by its
number, or by its text where a library gives no number. The invariant: an exception that is not
recognized is left as it is.
"""

import errno
import os
import pathlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tasks.core.errors import DiskFull, KawanUsahaError, PortTaken, SystemRefused
from tasks.core.system.exhaustion import exhausted_memory


@dataclass(frozen=True)
class SystemRefusal:
    """What the system refused, with the next step."""

    what: str
    next_step: str
    error: type[KawanUsahaError] = SystemRefused

    def told(self, *, where: str | None = None, found: object = None) -> KawanUsahaError:
        """Return the error with this explanation."""
        return self.error(self.what, where=where, found=found, next_step=self.next_step)


_NO_RIGHT = SystemRefusal(
    "The system denies permission.",
    "Check owner and mode (`ls -ld`) of the file and of the directory that it is in.",
)
_NO_ROOM = SystemRefusal(
    "The disk is full.", "Free some space, or set KAWAN_USAHA_HOME to a larger disk.", DiskFull
)
_NO_HANDLES = SystemRefusal(
    "Too many open files.",
    "Raise the limit (`ulimit -n 65536`) in the shell that runs the command.",
)
_NO_MEMORY = {
    "host": SystemRefusal(
        "This machine ran out of memory.",
        "End other programs, or use a machine (or container) with more memory.",
    ),
    "device": SystemRefusal(
        "The GPU ran out of memory.",
        "End other programs on it (`nvidia-smi`), or use a GPU with more memory.",
    ),
}
_NO_THREADS = SystemRefusal(
    "No more processes or threads can be created.",
    "See `ulimit -u`, and the limit of the container (pids).",
)
NO_ANSWER = SystemRefusal(
    "A server does not answer.", "Check that it runs and that this machine can reach it."
)
_REFUSALS = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EMFILE: _NO_HANDLES,
    errno.ENFILE: _NO_HANDLES,
    errno.ENOMEM: _NO_MEMORY["host"],
    errno.ENOENT: SystemRefusal(
        "A file or directory does not exist.", "Check the path, and that nothing removes it."
    ),
    errno.ENOTDIR: SystemRefusal(
        "Part of a path is a file where a directory is needed.", "Check the path."
    ),
    errno.EISDIR: SystemRefusal(
        "A directory has the name of a file that is needed.", "Check the path."
    ),
    errno.EROFS: SystemRefusal(
        "The file system is read-only.", "Name a writable place, or remount it."
    ),
    errno.ENAMETOOLONG: SystemRefusal(
        "A name is too long for the file system.", "Name a shorter path."
    ),
    errno.ELOOP: SystemRefusal("Symbolic links form a loop.", "Correct the links of this path."),
    errno.EIO: SystemRefusal(
        "The disk or the connection to it is failing.",
        "See `dmesg`; save what matters, and use another disk.",
    ),
    errno.ESTALE: SystemRefusal(
        "A file on a network file system is gone.", "Check the mount; then try again."
    ),
    errno.EFBIG: SystemRefusal(
        "A file grew larger than allowed.",
        "See `ulimit -f` and the limits of the file system.",
    ),
    errno.EAGAIN: _NO_THREADS,
    errno.EADDRINUSE: SystemRefusal(
        "A port is in use.", "Stop the process that uses it, or choose another port.", PortTaken
    ),
    errno.ECONNREFUSED: NO_ANSWER,
    errno.ECONNRESET: NO_ANSWER,
    errno.EHOSTUNREACH: NO_ANSWER,
    errno.ENETUNREACH: NO_ANSWER,
    errno.ETIMEDOUT: NO_ANSWER,
}


_OF_FILES = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
_RUSTS = re.compile(r"\(os error (\d+)\)")
"""The end of the text of a system error in Rust libraries: safetensors, tokenizers."""
_TORCHS = re.compile(r"PytorchStreamWriter failed writing|inline_container\.cc.*unexpected pos")
"""The text of torch.save when it could not write everything, usually on a full disk."""


def system_error(error: BaseException) -> KawanUsahaError | None:
    """Return an error of the system with its explanation, None for any other exception."""
    refusal = _REFUSALS.get(_number_of(error) or 0)
    if refusal is None and isinstance(error, (TimeoutError, ConnectionError)):
        refusal = None if isinstance(error, BrokenPipeError) else NO_ANSWER
    if refusal is not None:
        return refusal.told(where=_where(error), found=getattr(error, "strerror", None) or error)
    if (memory := exhausted_memory(error)) is not None:
        return _NO_MEMORY[memory].told(found=str(error).partition("\n")[0] or None)
    return _NO_THREADS.told(found=error) if _has_no_thread(error) else None


def is_of_the_machine(error: BaseException) -> bool:
    """Return whether an error concerns this machine's space, memory, permissions or limits.

    Errors that concern only the path in question do not count.
    """
    number = _number_of(error)
    known = number in _REFUSALS and number not in _OF_FILES
    return known or exhausted_memory(error) is not None or _has_no_thread(error)


def may_pass(error: OSError) -> bool:
    """Return whether a file that cannot be read now may be intact: this machine is at fault."""
    return is_of_the_machine(error) and error.errno != errno.EIO


@contextmanager
def names_path(path: Path | str) -> Iterator[None]:
    """Add this path to an OSError of the block that names none.

    The system names what it cannot open or rename, but not what it cannot read, write or sync.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _number_of(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    text = str(error)
    if found := _RUSTS.search(text):
        return int(found[1])
    return errno.ENOSPC if isinstance(error, RuntimeError) and _TORCHS.search(text) else None


def _has_no_thread(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("can't start new thread")


def _where(error: BaseException) -> str | None:
    names = (getattr(error, "filename", None), getattr(error, "filename2", None))
    paths = [os.fsdecode(name) for name in names if isinstance(name, (str, bytes, os.PathLike))]
    return " and ".join(paths) or _opened_by_pathlib(error)


def _opened_by_pathlib(error: BaseException) -> str | None:
    """Return the file that `Path.read_text` and the like had open: the error does not name it."""
    own = (frame for frame in _frames(error) if frame.f_code.co_filename == pathlib.__file__)
    paths = (frame.f_locals.get("self") for frame in own)
    return next((str(path) for path in paths if isinstance(path, pathlib.PurePath)), None)


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next
