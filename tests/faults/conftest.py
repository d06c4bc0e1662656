"""Each fault in turn, and what a piece of work has to do about it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.injector import (
    DISK_FULL,
    FAILING_DISK,
    LOST_PERMISSION,
    NO_DESCRIPTORS,
    OVER_QUOTA,
    READ_ONLY,
    Fault,
)
from tests.faults.survey import Work, survey

FAULTS = {
    "the disk is full": DISK_FULL,
    "the quota is used up": OVER_QUOTA,
    "the disk fails": FAILING_DISK,
    "permission is lost": LOST_PERMISSION,
    "the disk is read-only": READ_ONLY,
    "descriptors have run out": NO_DESCRIPTORS,
}
Holds = Callable[..., None]


_EACH = [
    pytest.param(fault, id=name, marks=() if fault is FAILING_DISK else pytest.mark.slow)
    for name, fault in FAULTS.items()
]
"""A disk that fails can strike at any call: the fast suite has this one alone."""


@pytest.fixture(params=_EACH)
def fault(request: pytest.FixtureRequest) -> Fault:
    found: Fault = request.param
    return found


@pytest.fixture
def holds(tmp_path: Path, fault: Fault) -> Holds:
    """Let every call of the work fail in turn, and raise unless each failure was a good one."""

    def holds(work: Work, **how: int) -> None:
        found = survey(work, fault, tmp_path / "survey", **how)
        assert found.wrong == []
        assert found.failed

    return holds
