"""Released recipes with accepted answers that no run of `learn` has covered yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.core.collected.review.reviewed_set import reviewed_set
from tasks.core.collected.storage.directory import COLLECTED, directory_lock
from tasks.core.learning.decisions import LearningDecisions
from tasks.core.serving.state.directory import state_directories
from tasks.core.store.runs import RunRecords


@dataclass(frozen=True)
class PendingReviews:
    """A recipe, the number of accepted answers of its deployment, and how many of them are new."""

    recipe: str
    answers: int
    new: int

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.recipe}: {self.new} new of {self.answers} reviewed conversations"


def pending_reviews(home: Path) -> Iterator[PendingReviews]:
    """Yield every released recipe whose deployment collects answers. Raises OSError, LockBusy."""
    records = RunRecords(home)
    for state in state_directories(home):
        name, directory = state.root.name, state.root / COLLECTED
        if not directory.is_dir() or records.last_release(name) is None:
            continue
        with directory_lock(directory, "reviewed set", shared=True):
            reviews = reviewed_set(directory).reviews
        accepted = [id_ for id_, decided in reviews.items() if decided.decision == "accept"]
        yield PendingReviews(
            name, len(accepted), len(LearningDecisions(home, name).new_among(accepted))
        )
