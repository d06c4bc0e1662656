"""Held-out conversations that stand in the training data, word for word or nearly.

A model predicts what it was trained on better than what it never saw, so a figure measured on that
says nothing. Uses the signatures of `duplicates`: memory and disk are bounded as there. Every
record of the training file that can be read counts, also one that a training would leave out.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.conversation.chunks import Chunk
from tasks.core.conversation.duplicates import Duplicate, DuplicateFinder
from tasks.core.conversation.json_values import ChunkValues
from tasks.core.conversation.lengths import Size
from tasks.core.conversation.pieces import computed_pieces
from tasks.core.conversation.reading import require_fastchat
from tasks.core.conversation.records import Conversation, parse_record
from tasks.core.conversation.signatures import Signed, signed
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
    with DuplicateFinder() as finder:
        trained = sum(len(each) for each in _added(finder, training, report))
        read = [each.tolist() for each in _added(finder, held_out, silent)]
        found = tuple(_leak(one) for one in finder.repeated_from(trained))
    return Overlap(trained, tuple(position for each in read for position in each), found)


def _added(finder: DuplicateFinder, path: Path, report: Report) -> Iterator[NDArray[np.uint64]]:
    """Add what can be read of a file; yield the positions of it, a piece at a time."""
    require_fastchat(path)
    before = 0
    for piece in computed_pieces(_read, path, report=report):
        finder.add(piece.signed, before)
        yield piece.signed["position"] + np.uint64(before)
        before += piece.positions


@dataclass(frozen=True)
class _Piece:
    """What can be read in a piece of a file."""

    signed: Signed
    positions: int
    broken: bool
    done_bytes: int


def _read(chunk: Chunk) -> _Piece:
    """Neighbours are joined: read so or not, the words are the same."""
    values = ChunkValues(chunk)
    parsed = ((at, parse_record(each, at, merge_neighbours=True)) for at, each in values)
    good = [(at, each, _UNKNOWN) for at, each in parsed if isinstance(each, Conversation)]
    return _Piece(signed(good), values.positions, values.broken, chunk.done_bytes)


def _leak(copy: Duplicate) -> Leak:
    return Leak(copy.position, copy.id, copy.original_position, copy.original_id, copy.exact)
