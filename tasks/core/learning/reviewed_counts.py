"""How much a reviewed set holds, and how much of it no run of `learn` has covered yet."""

from pathlib import Path

from tasks.core.collected.review.reviewed_set import (
    DECISIONS_FILE,
    HELD_OUT,
)
from tasks.core.conversation.reading.data_sources import (
    REVIEWED_CONVERSATIONS,
    REVIEWED_PREFERENCES,
)
from tasks.core.files.foreign import read_json_object
from tasks.core.learning.decisions import LearningDecisions
from tasks.core.learning.report import ReviewedCounts


def accepted_answers(reviewed_set: Path) -> tuple[str, ...]:
    """Return the ids of the accepted answers. Raises NotAModel, OSError."""
    reviews = read_json_object(reviewed_set / DECISIONS_FILE)
    return tuple(
        sorted(
            name
            for name, decided in reviews.items()
            if isinstance(decided, dict) and decided.get("decision") == "accept"
        )
    )


def count_reviewed(reviewed_set: Path, sets: LearningDecisions) -> ReviewedCounts:
    """Return the counts of a reviewed set, given its artifact. Raises OSError."""
    answers = accepted_answers(reviewed_set)
    return ReviewedCounts(
        answers=len(answers),
        new=len(sets.new_among(answers)),
        conversations=_records(reviewed_set / REVIEWED_CONVERSATIONS),
        held_out=_records(reviewed_set / HELD_OUT),
        preferences=_records(reviewed_set / REVIEWED_PREFERENCES),
    )


def _records(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
