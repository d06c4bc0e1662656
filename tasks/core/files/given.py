"""Files that a user names: streams copied so that they can be read again, and text decoded.

A pipe (`<(zcat f.gz)`, `/dev/stdin`, a FIFO) can be read once, and only by the process that holds
it. A command copies a stream to a temporary file; what cannot do so refuses it. The invariant: only
regular files are read twice or by another process.
"""

import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import DataError, DiskFull, KawanUsahaError
from tasks.core.files.copies import CHUNK_BYTES
from tasks.core.files.disk_space import disk_is_full
from tasks.core.files.foreign import HEAD_BYTES
from tasks.core.files.kinds import kind_of
from tasks.core.files.temporary import scratch_directory

_OF_A_PROCESS = (Path("/dev"), Path("/proc"))
_BY_HAND_BYTES = 1 << 24
"""More than anyone writes by hand. A stream may never end."""
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - its files are as much at rest as any


@contextmanager
def at_rest(path: Path) -> Iterator[Path]:
    """Yield the path itself, or for a stream a copy that exists in TMPDIR during the block.

    A missing path or a directory is left to its reader. Errors that name the copy are made to name
    the stream. Raises DiskFull when the copy does not fit, DataError when the stream cannot be
    read.
    """
    if not _is_stream(path):
        yield path
        return
    with scratch_directory("stream") as directory:
        spool = directory / path.name
        _copy(path, spool)
        try:
            yield spool
        except KawanUsahaError as error:
            _rename(error, str(spool), str(path))
            raise


def require_at_rest(path: Path, *, error: type[KawanUsahaError] = DataError) -> None:
    """Raise error for a stream. A missing path is left to its reader."""
    if _is_stream(path):
        raise error(
            "This is a stream, which can be read only once.",
            where=path,
            expected="a file, because it is read more than once",
            next_step="Write its content to a file, and name the file.",
        )


def read_given_text(path: Path, what: str, *, error: type[KawanUsahaError]) -> str:
    """Return the text of a small, hand-written file, without a byte order mark.

    `what` begins the error message. Reads once, so a stream is fine. Raises error for a file that
    cannot be read or is not UTF-8 text, and says what it is instead.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_BY_HAND_BYTES + 1)
    except OSError as cause:
        raise error(f"{what} cannot be read.", where=path, found=cause.strerror) from cause
    if len(raw) > _BY_HAND_BYTES:
        raise error(f"{what} is too large.", where=path, expected=f"at most {_BY_HAND_BYTES} bytes")
    kind = kind_of(raw[:HEAD_BYTES])
    if kind is not None:
        raise error(
            f"{what} is not UTF-8 text.", where=path, found=kind.name, next_step=kind.remedy
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        byte = cause.object[cause.start]
        raise error(
            f"{what} is not UTF-8 text.",
            where=f"{path}, line {cause.object[: cause.start].count(bytes([10])) + 1}",
            found=f"the byte 0x{byte:02x}",
            next_step="Save it as UTF-8.",
        ) from cause


def _is_stream(path: Path) -> bool:
    """Return whether a second read, or another process, may get other bytes."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    if stat.S_ISDIR(mode):
        return False
    place = path.absolute()
    own = any(place.is_relative_to(root) for root in _OF_A_PROCESS)
    return not stat.S_ISREG(mode) or (own and not place.is_relative_to(_MEMORY_DISK))


def _copy(stream: Path, spool: Path) -> None:
    try:
        with stream.open("rb") as source, spool.open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
    except OSError as cause:
        if disk_is_full(cause):
            raise DiskFull(
                "The stream must be read more than once, but a copy of it does not fit.",
                where=spool.parent,
                next_step="Set TMPDIR to a directory with more space, or use a regular file.",
            ) from cause
        raise DataError("The stream cannot be read.", where=stream, found=cause.strerror) from cause


def _rename(error: KawanUsahaError, old: str, new: str) -> None:
    """Replace old by new wherever the error names it."""
    for name in ("what", "where", "expected", "found", "next_step"):
        value = getattr(error, name)
        if value is not None:
            setattr(error, name, value.replace(old, new))
