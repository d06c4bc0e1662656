from collections.abc import Callable
from pathlib import Path

import pytest

from tests.power.cuts import Check, Survey, cut
from tests.power.recorder import Recording

Cut = Callable[..., Survey]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The directory that is recorded."""
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@pytest.fixture
def survey(tmp_path: Path) -> Cut:
    """Cut the power at each moment of a recording, and ask a reader about what may be left."""

    def survey(recording: Recording, check: Check, **how: object) -> Survey:
        return cut(recording, tmp_path / "after", check, **how)

    return survey


@pytest.fixture
def is_needed(survey: Cut) -> Callable[[Recording, Check, str], bool]:
    """Tell whether it is found when a disk ignores the syncs that a pattern matches."""

    def is_needed(recording: Recording, check: Check, pattern: str) -> bool:
        return bool(survey(recording.without(pattern), check, enough=1).wrong)

    return is_needed
