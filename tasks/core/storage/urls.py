"""Opening a directory or bucket by its URL, of any protocol of fsspec, with errors explained.

Covers what all remote reading and writing has in common; what is written, in which order, is up to
the caller. Credentials come from the environment, and URLs are shown without them.
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
"""How long a storage may take to answer. Some clients retry for minutes."""
_USER = re.compile(r"://[^/]*@")


def shown(url: str) -> str:
    """Return a URL for people, without the user and password that it may contain."""
    return _USER.sub("://", url).rstrip("/")


def open_storage(url: str, setting: str, **options: object) -> tuple[Any, str]:
    """Return the fsspec filesystem of a path or URL, and the path in it. Nothing is asked yet.

    setting is the name of the setting with the URL; options are the filesystem's own. Raises
    MissingTool when the protocol's package is not installed, UsageError for an unknown protocol,
    and what `storage_failures` raises.
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
            "The storage protocol is unknown.",
            where=setting,
            expected="a directory, or a URL that fsspec supports, such as s3://bucket/folder",
            found=shown(url),
            next_step=f"Correct {setting}.",
        ) from error
    filesystem.invalidate_cache()
    return filesystem, root.rstrip("/")


def _how_to_install(url: str) -> str:
    from fsspec.registry import known_implementations

    known = known_implementations.get(url.partition("://")[0], {})
    package = str(known.get("class", "fsspec")).partition(".")[0]
    what = "the package named above" if package == "fsspec" else f"it: `pip install {package}`"
    return f"Install {what}, in the environment that this project is installed in."


def in_time(ask: Callable[[], T], where: str) -> T:
    """Return the result of ask; raise what it raises, or StorageUnavailable after WITHIN_S.

    For checks before the work. A call that hangs continues in a thread that ends with the process.
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
    """Turn the errors of a storage in this block into those of tasks.core.errors.

    Other exceptions pass, since they are bugs. So does a FileNotFoundError where only the file is
    missing, not its bucket.
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
    """Recognize Python's own exceptions, from a directory, a mount or an unknown library."""
    if isinstance(error, PermissionError):
        return StorageRefused(
            "Permission denied.",
            where=where,
            found=error,
            next_step="Give this account permission; credentials for a bucket come from the "
            "environment.",
        )
    if isinstance(error, NotADirectoryError | FileExistsError):
        return StorageRefused(
            "There is a file where a directory should be.",
            where=where,
            found=error,
            next_step="Use another directory, or move the file away.",
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
            "The storage is full.",
            where=where,
            found=error,
            next_step="Remove what is not needed there, or use another place.",
        )
    return None
