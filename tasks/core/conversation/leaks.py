"""Held-out conversations that stand in the training data, word for word or nearly.

A model predicts what it was trained on better than what it never saw, so a figure measured on that
says nothing. Uses the signatures of `duplicates`: memory and disk are bounded as there. Every
record of the training data that can be read counts, also one that a training would leave out.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.conversation.chunks import Chunk
from tasks.core.conversation.data_files import Data, DataFile, looked_at
from tasks.core.conversation.dialects import read_record
from tasks.core.conversation.duplicates import Duplicate, DuplicateFinder
from tasks.core.conversation.json_values import ChunkValues
from tasks.core.conversation.lengths import Size
from tasks.core.conversation.pieces import computed_pieces
from tasks.core.conversation.positions import Positions
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.records import Conversation
from tasks.core.conversation.signatures import Signed, signed
from tasks.core.progress import OnProgress, silent

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
    training_file: str | None = None
    """What the file is called that it stands in, where there are several."""

    def __str__(self) -> str:
        says = "the same as" if self.exact else "almost the same as"
        of = f" of {self.training_file}" if self.training_file else ""
        return (
            f"held-out record {self.position} ({self.id}) says {says} training record "
            f"{self.training_position} ({self.training_id}){of}"
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


def find_leaks(training: Data, held_out: Path, *, on_progress: OnProgress = silent) -> Overlap:
    """Return which of the held-out conversations stand in the training data.

    `on_progress` counts the bytes of the training data. Raises DataError when a file cannot be
    read.
    """
    files, (apart,) = looked_at(training), looked_at(held_out)
    places = Positions(files)
    with DuplicateFinder() as finder:
        trained = sum(len(each) for each in _added(finder, files, places, on_progress))
        held = _added(finder, [apart], Positions([apart]), silent)
        read = [each.tolist() for each in held]
        found = tuple(_leak(one, places) for one in finder.repeated_from(trained))
    return Overlap(trained, tuple(position for each in read for position in each), found)


def _added(
    finder: DuplicateFinder, files: Sequence[DataFile], places: Positions, on_progress: OnProgress
) -> Iterator[NDArray[np.uint64]]:
    """Add what can be read of some files; yield the positions of it, a piece at a time."""
    before = 0
    paths = [each.path for each in files]
    for piece in computed_pieces(_Reader(tuple(files)), paths, on_progress=on_progress):
        places.begin(piece.file, before)
        finder.add(piece.signed, before)
        yield piece.signed["position"] + np.uint64(before)
        before += piece.positions


@dataclass(frozen=True)
class _Piece:
    """What can be read in a piece of a file."""

    signed: Signed
    file: int
    positions: int
    broken: bool
    done_bytes: int


@dataclass(frozen=True)
class _Reader:
    """Reads pieces of these files, which were looked at."""

    files: tuple[DataFile, ...]

    def __call__(self, chunk: Chunk) -> _Piece:
        """Neighbours are joined: read so or not, the words are the same."""
        values, read_as = ChunkValues(chunk), self.files[chunk.file].read_as
        parsed = (
            (at, read_record(each, at, read_as, merge_neighbours=True)) for at, each in values
        )
        good = [
            (at, _said(each), _UNKNOWN) for at, each in parsed if isinstance(each, Conversation)
        ]
        return _Piece(signed(good), chunk.file, values.positions, values.broken, chunk.done_bytes)


def _said(record: Conversation) -> Conversation:
    """Return a conversation as it is, a preference with the answer that is preferred."""
    return record.chosen_conversation() if isinstance(record, Preference) else record


def _leak(copy: Duplicate, places: Positions) -> Leak:
    position, file = places.of(copy.original_position)
    return Leak(copy.position, copy.id, position, copy.original_id, copy.exact, file)
