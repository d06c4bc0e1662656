"""Which released recipes have reviewed answers that no run has learned yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.core.collected.place import COLLECTED, held
from tasks.core.collected.reviewed import reviewed_set
from tasks.core.learning.learned import LearnedSets
from tasks.core.serving.state.directory import state_directories
from tasks.core.store.runs import RunRecords


@dataclass(frozen=True)
class Waiting:
    """A recipe, the accepted answers of the deployment of its name, and how many are new."""

    recipe: str
    answers: int
    new: int

    def __str__(self) -> str:
        """Return it in a line."""
        return f"{self.recipe}: {self.new} new of {self.answers} reviewed conversations"


def waiting(home: Path) -> Iterator[Waiting]:
    """Yield each released recipe whose deployment collects. Raises OSError, LockBusy."""
    records = RunRecords(home)
    for state in state_directories(home):
        name, directory = state.root.name, state.root / COLLECTED
        if not directory.is_dir() or records.last_release(name) is None:
            continue
        with held(directory, "reviewed set", shared=True):
            reviews = reviewed_set(directory).reviews
        accepted = [id_ for id_, decided in reviews.items() if decided.decision == "accept"]
        yield Waiting(name, len(accepted), len(LearnedSets(home, name).new_among(accepted)))
