"""A directory or bucket by its URL, of any protocol that fsspec knows, and its failures in words.

Covers what everything has in common that reads or writes elsewhere; what is written, and in which
order, is the caller's. Keys come from the environment, and an address is shown without any.
"""

import errno
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tasks.core.errors import (
    BucketMissing,
    DiskFull,
    KawanUsahaError,
    MissingTool,
    StorageRefused,
    StorageUnavailable,
    UsageError,
)
from tasks.core.storage.errors import storage_error
from tasks.core.system.errors import names_path

T = TypeVar("T")

WITHIN_S = 30.0
"""How long a storage may take to answer: some clients try for minutes."""
_USER = re.compile(r"://[^/]*@")


def shown(url: str) -> str:
    """Return an address for people: without the user and password that it may be opened with."""
    return _USER.sub("://", url).rstrip("/")


def open_storage(url: str, setting: str, **options: object) -> tuple[Any, str]:
    """Return the fsspec filesystem of a path or URL, and the path in it. Nothing is asked yet.

    setting names what holds the URL, options are the filesystem's own. Raises MissingTool when the
    protocol's package is not installed, UsageError when there is no such protocol, and what
    `storage_failures` raises.
    """
    import fsspec

    try:
        with storage_failures(shown(url)):
            filesystem, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise MissingTool(
            "The package for this kind of storage is not installed.",
            where=shown(url),
            found=error,
            next_step=_how_to_install(url),
        ) from error
    except ValueError as error:
        raise UsageError(
            "There is no such kind of storage.",
            where=setting,
            expected="a directory, or a URL that fsspec knows such as s3://bucket/folder",
            found=shown(url),
            next_step=f"Correct {setting}.",
        ) from error
    filesystem.invalidate_cache()
    return filesystem, root.rstrip("/")


def _how_to_install(url: str) -> str:
    from fsspec.registry import known_implementations

    known = known_implementations.get(url.partition("://")[0], {})
    package = str(known.get("class", "fsspec")).partition(".")[0]
    what = "what the line above names" if package == "fsspec" else f"it: `pip install {package}`"
    return f"Install {what}, in the environment that this project is installed in."


def in_time(ask: Callable[[], T], where: str) -> T:
    """Return what a storage answers, and raise what that raises; StorageUnavailable after WITHIN_S.

    For questions before the work. What is asked may go on in a thread that ends with the process.
    """
    answers: list[T] = []
    failed: list[BaseException] = []

    def call() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - raised by the waiting thread
            failed.append(error)

    thread = threading.Thread(target=call, name="ask-storage", daemon=True)
    thread.start()
    thread.join(WITHIN_S)
    if failed:
        raise failed[0]
    if not answers:
        raise StorageUnavailable(
            "The storage does not answer.",
            where=where,
            expected=f"an answer within {WITHIN_S:g} s",
            next_step="Check network, proxy and address of the storage, and run again.",
        )
    return answers[0]


@contextmanager
def storage_failures(where: str) -> Iterator[None]:
    """Raise what goes wrong with a storage in this block as one of tasks.core.errors.

    Other exceptions pass: a bug is not the storage's. So does a FileNotFoundError where only the
    file is missing, not its bucket.
    """
    try:
        yield
    except Exception as error:
        known = storage_error(error, where) or _of_directory(error, where)
        only_a_file = isinstance(error, FileNotFoundError) and not isinstance(known, BucketMissing)
        if known is None or only_a_file:
            with names_path(where):
                raise
        raise known from error


def _of_directory(error: Exception, where: str) -> KawanUsahaError | None:
    """Return what a directory, a mount or an unknown library says with Python's own exceptions."""
    if isinstance(error, PermissionError):
        return StorageRefused(
            "It may not be written to or read.",
            where=where,
            found=error,
            next_step="Give this account the right to it; keys for a bucket come from the "
            "environment.",
        )
    if isinstance(error, NotADirectoryError | FileExistsError):
        return StorageRefused(
            "A file stands where a directory should be.",
            where=where,
            found=error,
            next_step="Name another directory, or move the file away.",
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return StorageUnavailable(
            "The storage cannot be reached.",
            where=where,
            found=f"{type(error).__name__}: {error}".rstrip(": "),
            next_step="Check the network, and run again: what has arrived is kept.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            "There is no room left at the storage.",
            where=where,
            found=error,
            next_step="Remove what is not needed there, or name another place.",
        )
    return None
