"""What there is to learn from in a reviewed set, and what of it no run has learned yet."""

from pathlib import Path

from tasks.core.collected.reviewed import CONVERSATIONS, HELD_OUT, PREFERENCES, REVIEWS
from tasks.core.files.foreign import read_json_object
from tasks.core.learning.learned import LearnedSets
from tasks.core.learning.lesson import Material


def accepted_answers(reviewed_set: Path) -> tuple[str, ...]:
    """Return the ids of the answers that the team has accepted. Raises NotAModel, OSError."""
    reviews = read_json_object(reviewed_set / REVIEWS)
    return tuple(
        sorted(
            name
            for name, decided in reviews.items()
            if isinstance(decided, dict) and decided.get("decision") == "accept"
        )
    )


def material_in(reviewed_set: Path, sets: LearnedSets) -> Material:
    """Return how much there is in the artifact of a reviewed set. Raises OSError."""
    answers = accepted_answers(reviewed_set)
    return Material(
        answers=len(answers),
        new=len(sets.new_among(answers)),
        conversations=_records(reviewed_set / CONVERSATIONS),
        held_out=_records(reviewed_set / HELD_OUT),
        preferences=_records(reviewed_set / PREFERENCES),
    )


def _records(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
