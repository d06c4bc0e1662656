"""Held-out conversations that stand in the training data, word for word or nearly.

A model predicts what it was trained on better than what it never saw, so a figure measured on that
says nothing. Uses the signatures of `duplicates`: memory and disk are bounded as there. Every
record of the training file that can be read counts, also one that a training would leave out.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tasks.core.conversation.duplicates import Duplicate, DuplicateFinder
from tasks.core.conversation.lengths import Size
from tasks.core.conversation.reading import scan
from tasks.core.conversation.records import Conversation
from tasks.core.progress import Report, silent

SHOWN_LEAKS = 10
_UNKNOWN = Size(0, 0)


@dataclass(frozen=True)
class Leak:
    """A held-out record and the record of the training data that it says again."""

    position: int
    id: str
    training_position: int
    training_id: str
    exact: bool

    def __str__(self) -> str:
        says = "the same as" if self.exact else "almost the same as"
        return (
            f"held-out record {self.position} ({self.id}) says {says} training record "
            f"{self.training_position} ({self.training_id})"
        )


@dataclass(frozen=True)
class Leaks:
    """How many held-out conversations stand in the training data; `first` names some of them."""

    training_records: int
    held_out_records: int
    exact: int
    near: int
    first: tuple[Leak, ...] = ()

    @property
    def count(self) -> int:
        """How many held-out conversations leak."""
        return self.exact + self.near

    @property
    def whole(self) -> bool:
        """Whether no held-out conversation is new to a model that was trained on the data."""
        return self.held_out_records > 0 and self.count == self.held_out_records

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.held_out_records} held-out conversations stand in the training "
            f"data: {self.exact} word for word, {self.near} nearly"
        )


@dataclass(frozen=True)
class Overlap:
    """A held-out file held against the training data: all of its leaks.

    `readable` are the positions of the records that can be read, in order. Which of them a model
    is measured with is known only once they were divided into its tokens.
    """

    training_records: int
    readable: tuple[int, ...]
    leaks: tuple[Leak, ...]

    def first(self, most: int | None) -> Leaks:
        """Return what of the first `most` readable records leaks; None is no limit."""
        return self.among(self.readable[:most])

    def among(self, positions: Collection[int]) -> Leaks:
        """Return what of the records at these positions leaks."""
        wanted = set(positions)
        found = [leak for leak in self.leaks if leak.position in wanted]
        exact = sum(leak.exact for leak in found)
        first = tuple(found[:SHOWN_LEAKS])
        return Leaks(self.training_records, len(wanted), exact, len(found) - exact, first)


def find_leaks(training: Path, held_out: Path, *, report: Report = silent) -> Overlap:
    """Return which of the held-out conversations stand in the training data.

    `report` counts the bytes of the training data. Raises DataError when a file cannot be read.
    """
    with ExitStack() as stack:
        finder = stack.enter_context(DuplicateFinder())
        trained = 0
        for position, conversation in _conversations(training, report):
            finder.add(position, conversation, _UNKNOWN)
            trained += 1
        readable = []
        for position, conversation in _conversations(held_out, silent):
            finder.add(position, conversation, _UNKNOWN)
            readable.append(position)
        found = tuple(_leak(one) for one in finder.repeated_from(trained))
    return Overlap(trained, tuple(readable), found)


def _conversations(path: Path, report: Report) -> Iterator[tuple[int, Conversation]]:
    """Yield what can be read. Neighbours are joined: read so or not, the words are the same."""
    for position, record in scan(path, merge_neighbours=True, report=report):
        if isinstance(record, Conversation):
            yield position, record


def _leak(copy: Duplicate) -> Leak:
    return Leak(copy.position, copy.id, copy.original_position, copy.original_id, copy.exact)
