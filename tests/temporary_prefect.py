"""Prefect's test harness, whose database is migrated once for all processes of a run."""

import fcntl
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from prefect.testing import utilities

_START_WITHIN_S = 600
"""Far above what it takes, also on a busy machine."""
_DATABASE = "prefect-test.db"
"""As the harness calls it."""


@contextmanager
def temporary_prefect(run: Path) -> Iterator[None]:
    """Give a server and a database of one's own.

    The migrations are two thirds of what a start costs. Whoever comes first leaves the migrated
    database in `run`, a directory that all processes of the run share. One server for all of them
    would cost less still, but its SQLite refuses several flows at once now and then.
    """
    migrated = run / "migrated.db"
    own = tempfile.mkdtemp()  # the harness removes it
    with (run / "migrated.lock").open("w") as lock, ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_first = not migrated.exists()
        if not is_first:
            fcntl.flock(lock, fcntl.LOCK_UN)
            shutil.copy(migrated, Path(own, _DATABASE))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(utilities, "mkdtemp", lambda: own)
            stack.enter_context(
                utilities.prefect_test_harness(server_startup_timeout=_START_WITHIN_S)
            )
        if is_first:
            _copy_in_use(Path(own, _DATABASE), migrated)
            fcntl.flock(lock, fcntl.LOCK_UN)
        yield


def _copy_in_use(database: Path, copy: Path) -> None:
    unfinished = copy.with_suffix(".unfinished")
    with (
        closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(unfinished)) as target,
    ):
        source.backup(target)
    unfinished.rename(copy)
