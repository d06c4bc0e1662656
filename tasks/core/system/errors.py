"""What the operating system refuses, in words: rooms, rights, memory, descriptors, threads.

One function for the flow's process and for the processes that it starts. It goes by the error
number, or by the text where a library gives no number. The invariant: an exception that
is not known here stays what it is.
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
    """What the system refused, and the next step."""

    what: str
    next_step: str
    error: type[KawanUsahaError] = SystemRefused

    def told(self, *, where: str | None = None, found: object = None) -> KawanUsahaError:
        """Return the error that says so."""
        return self.error(self.what, where=where, found=found, next_step=self.next_step)


_NO_RIGHT = SystemRefusal(
    "The system does not allow this.",
    "Check owner and mode (`ls -ld`) of the file and of the directory that it is in.",
)
_NO_ROOM = SystemRefusal(
    "The disk is full.", "Free some space, or set KAWAN_USAHA_HOME to a larger disk.", DiskFull
)
_NO_HANDLES = SystemRefusal(
    "Too many files are open at once.",
    "Raise the limit (`ulimit -n 65536`) in the shell that runs the command.",
)
_NO_MEMORY = {
    "host": SystemRefusal(
        "The memory of this machine ran out.",
        "End what else runs here, or use a machine (or a container) with more memory.",
    ),
    "device": SystemRefusal(
        "The memory of the GPU ran out.",
        "End what else runs there (`nvidia-smi`), or use a GPU with more memory.",
    ),
}
_NO_THREADS = SystemRefusal(
    "The system has no more processes or threads to give.",
    "See `ulimit -u`, and the limit of the container (pids).",
)
NO_ANSWER = SystemRefusal(
    "A server does not answer.", "Check that it runs, and that this machine may reach it."
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
        "A file or directory is not there.", "Check the path, and that nothing removes it."
    ),
    errno.ENOTDIR: SystemRefusal(
        "A part of a path is a file, where a directory is needed.", "Check the path."
    ),
    errno.EISDIR: SystemRefusal(
        "A directory has the name of a file that is needed.", "Check the path."
    ),
    errno.EROFS: SystemRefusal(
        "The file system is read-only.", "Name a place that can be written, or mount it so."
    ),
    errno.ENAMETOOLONG: SystemRefusal(
        "A name is too long for the file system.", "Name a shorter path."
    ),
    errno.ELOOP: SystemRefusal(
        "Symbolic links lead in a circle.", "Correct the links of this path."
    ),
    errno.EIO: SystemRefusal(
        "The disk, or the connection to it, fails.",
        "See `dmesg`; copy away what matters, and use another disk.",
    ),
    errno.ESTALE: SystemRefusal(
        "A file of a network file system has gone.", "Check the mount; then try again."
    ),
    errno.EFBIG: SystemRefusal(
        "A file became larger than is allowed.",
        "See `ulimit -f`, and what the file system allows.",
    ),
    errno.EAGAIN: _NO_THREADS,
    errno.EADDRINUSE: SystemRefusal(
        "A port is in use.", "Stop the process that has it, or choose another port.", PortTaken
    ),
    errno.ECONNREFUSED: NO_ANSWER,
    errno.ECONNRESET: NO_ANSWER,
    errno.EHOSTUNREACH: NO_ANSWER,
    errno.ENETUNREACH: NO_ANSWER,
    errno.ETIMEDOUT: NO_ANSWER,
}


_OF_FILES = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
_RUSTS = re.compile(r"\(os error (\d+)\)")
"""So ends the text of a system's error in libraries in Rust: safetensors, tokenizers."""
_TORCHS = re.compile(r"PytorchStreamWriter failed writing|inline_container\.cc.*unexpected pos")
"""What torch.save says where it could not write all, for want of room as a rule."""


def system_error(error: BaseException) -> KawanUsahaError | None:
    """Return what the system's refusal means and what to do, None for any other exception."""
    refusal = _REFUSALS.get(_number_of(error) or 0)
    if refusal is None and isinstance(error, (TimeoutError, ConnectionError)):
        refusal = None if isinstance(error, BrokenPipeError) else NO_ANSWER
    if refusal is not None:
        return refusal.told(where=_where(error), found=getattr(error, "strerror", None) or error)
    if (memory := exhausted_memory(error)) is not None:
        return _NO_MEMORY[memory].told(found=str(error).partition("\n")[0] or None)
    return _NO_THREADS.told(found=error) if _has_no_thread(error) else None


def is_of_the_machine(error: BaseException) -> bool:
    """Return whether an error speaks of this machine's room, memory, rights or limits.

    Not one that speaks of the files that were looked for.
    """
    number = _number_of(error)
    known = number in _REFUSALS and number not in _OF_FILES
    return known or exhausted_memory(error) is not None or _has_no_thread(error)


def may_pass(error: OSError) -> bool:
    """Return whether what cannot be read now may be whole: a matter of this machine, not damage."""
    return is_of_the_machine(error) and error.errno != errno.EIO


@contextmanager
def names_path(path: Path | str) -> Iterator[None]:
    """Let an OSError of the block name this path where the system names none.

    It names what it cannot open or rename, but not what it cannot read, write or sync.
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
    """Return the file that `Path.read_text` and the like had open: the system names none then."""
    own = (frame for frame in _frames(error) if frame.f_code.co_filename == pathlib.__file__)
    paths = (frame.f_locals.get("self") for frame in own)
    return next((str(path) for path in paths if isinstance(path, pathlib.PurePath)), None)


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next
