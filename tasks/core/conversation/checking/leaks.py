"""Held-out conversations that also occur in the training data, verbatim or nearly.

A model predicts what it was trained on better than unseen text, so a figure measured on leaked
conversations proves nothing. Uses the signatures of `duplicates`, with the same bounds on memory
and disk. Every readable record of the training data counts, even one that training would drop.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.conversation.checking.duplicates import Duplicate, DuplicateFinder
from tasks.core.conversation.checking.lengths import Size
from tasks.core.conversation.checking.signatures import Signed, signed
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.reading.chunks import Chunk
from tasks.core.conversation.reading.data_files import Data, DataFile, detect_formats
from tasks.core.conversation.reading.dialects import parse_as
from tasks.core.conversation.reading.json_values import ChunkValues
from tasks.core.conversation.reading.parallel import map_chunks
from tasks.core.conversation.reading.positions import Positions
from tasks.core.conversation.records import Conversation
from tasks.core.progress import OnProgress, silent

SHOWN_LEAKS = 10
_UNKNOWN = Size(0, 0)


@dataclass(frozen=True)
class Leak:
    """A held-out record and the training record that it repeats."""

    position: int
    id: str
    training_position: int
    training_id: str
    exact: bool
    training_file: str | None = None
    """The name of the file with the training record, if there are several files."""

    def __str__(self) -> str:
        says = "the same as" if self.exact else "almost the same as"
        of = f" of {self.training_file}" if self.training_file else ""
        return (
            f"held-out record {self.position} ({self.id}) says {says} training record "
            f"{self.training_position} ({self.training_id}){of}"
        )


@dataclass(frozen=True)
class Leaks:
    """How many held-out conversations occur in the training data; `first` lists some of them."""

    training_records: int
    held_out_records: int
    exact: int
    near: int
    first: tuple[Leak, ...] = ()

    @property
    def count(self) -> int:
        """The number of held-out conversations that leak."""
        return self.exact + self.near

    @property
    def whole(self) -> bool:
        """Whether all held-out conversations leak."""
        return self.held_out_records > 0 and self.count == self.held_out_records

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.held_out_records} held-out conversations stand in the training "
            f"data: {self.exact} word for word, {self.near} nearly"
        )


@dataclass(frozen=True)
class Overlap:
    """All leaks of a held-out file.

    `readable` are the positions of its readable records, in order. Which of them a model is
    measured on is known only once they are tokenized.
    """

    training_records: int
    readable: tuple[int, ...]
    leaks: tuple[Leak, ...]

    def first(self, most: int | None) -> Leaks:
        """Return the leaks among the first `most` readable records; None is no limit."""
        return self.among(self.readable[:most])

    def among(self, positions: Collection[int]) -> Leaks:
        """Return the leaks among the records at these positions."""
        wanted = set(positions)
        found = [leak for leak in self.leaks if leak.position in wanted]
        exact = sum(leak.exact for leak in found)
        first = tuple(found[:SHOWN_LEAKS])
        return Leaks(self.training_records, len(wanted), exact, len(found) - exact, first)


def find_leaks(training: Data, held_out: Path, *, on_progress: OnProgress = silent) -> Overlap:
    """Return which held-out conversations occur in the training data.

    `on_progress` counts the bytes of the training data. Raises DataError if a file cannot be read.
    """
    files, (apart,) = detect_formats(training), detect_formats(held_out)
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
    """Add the readable records of some files; yield their positions, chunk by chunk."""
    before = 0
    paths = [each.path for each in files]
    for chunk in map_chunks(_Reader(tuple(files)), paths, on_progress=on_progress):
        places.begin(chunk.file, before)
        finder.add(chunk.signed, before)
        yield chunk.signed["position"] + np.uint64(before)
        before += chunk.positions


@dataclass(frozen=True)
class _SignedChunk:
    """The signatures of the readable records of one chunk."""

    signed: Signed
    file: int
    positions: int
    broken: bool
    done_bytes: int


@dataclass(frozen=True)
class _Reader:
    """Signs the records of chunks of these files, whose formats are known."""

    files: tuple[DataFile, ...]

    def __call__(self, chunk: Chunk) -> _SignedChunk:
        """Return the signatures of a chunk; joining neighbouring turns changes no text."""
        values, read_as = ChunkValues(chunk), self.files[chunk.file].read_as
        parsed = ((at, parse_as(each, at, read_as, merge_neighbours=True)) for at, each in values)
        good = [
            (at, _said(each), _UNKNOWN) for at, each in parsed if isinstance(each, Conversation)
        ]
        return _SignedChunk(
            signed(good), chunk.file, values.positions, values.broken, chunk.done_bytes
        )


def _said(record: Conversation) -> Conversation:
    """Return a conversation unchanged; of a preference pair, the chosen side."""
    return record.chosen_conversation() if isinstance(record, Preference) else record


def _leak(copy: Duplicate, places: Positions) -> Leak:
    position, file = places.of(copy.original_position)
    return Leak(copy.position, copy.id, position, copy.original_id, copy.exact, file)
