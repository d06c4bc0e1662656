"""What the processes of one run of the tests share: a directory, and what one made in it."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def directory_of_the_run(factory: pytest.TempPathFactory) -> Path:
    """Return a directory that the processes of pytest-xdist share, and no other run."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(place: Path, make: Callable[[Path], None]) -> Path:
    """Return place, a directory to be read only: whoever comes first makes it, the others wait.

    It is made elsewhere, so that what failed is not taken for finished.
    """
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            unfinished = place.with_name(f"{place.name}.{os.getpid()}")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(place)
    return place
