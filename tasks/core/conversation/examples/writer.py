"""Example files: conversations tokenized once, then read by every training process without a copy.

One safetensors file holds all tokens one after another, their labels, and the offset of each
example. It is written in bounded memory. Records that turn out to be dropped later, such as
duplicates, are left out when the file is assembled. The invariant: the file holds the examples of
all other conversations in order, except those of which not even the first answer fits; these are
counted. Examples that an epoch trains on several times follow once more after all of these, in the
same order, so that the two sides of a pair stay together.
"""

import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from tasks.core.conversation.examples.labels import Example
from tasks.core.errors import DataError
from tasks.core.files.copies import CHUNK_BYTES
from tasks.core.files.durable import fsync_directory, fsync_file
from tasks.core.files.temporary import TEMPORARY
from tasks.core.system.errors import names_path

_FIGURES = np.dtype(
    [
        (name, "<i8")
        for name in ("position", "copies", "tokens", "learned", "dropped_answers", "largest_id")
    ]
)
_TOKEN_BYTES = 4


@dataclass(frozen=True)
class ExampleCounts:
    """What became of the conversations; one that an epoch trains on twice counts twice."""

    conversations: int
    too_long_conversations: int
    too_long_answers: int
    tokens: int
    learned_tokens: int

    @property
    def examples(self) -> int:
        """The number of conversations that can be trained on."""
        return self.conversations - self.too_long_conversations

    def of_records(self, examples_a_record: int) -> "ExampleCounts":
        """Return the counts of records, each of which has so many examples."""
        return replace(
            self,
            conversations=self.conversations // examples_a_record,
            too_long_conversations=self.too_long_conversations // examples_a_record,
            too_long_answers=self.too_long_answers // examples_a_record,
        )


@dataclass(frozen=True)
class ExampleRows:
    """Some examples as stored in a file: a row of figures each, and their concatenated tokens."""

    figures: NDArray[np.void]
    input_ids: bytes
    labels: bytes

    @classmethod
    def of(
        cls, examples: Sequence[tuple[int, Example]], copies: Sequence[int] | None = None
    ) -> "ExampleRows":
        """Return the rows of examples, each with the position of its record.

        `copies` says how often the file holds each example, once by default.
        """
        times = [1] * len(examples) if copies is None else copies
        figures = [
            (
                *(at, count, len(each.input_ids), each.learned_tokens, each.dropped_answers),
                max(each.input_ids, default=0),
            )
            for (at, each), count in zip(examples, times, strict=True)
        ]
        return cls(
            np.array(figures, dtype=_FIGURES),
            b"".join(array("i", each.input_ids).tobytes() for _, each in examples),
            b"".join(array("i", each.labels).tobytes() for _, each in examples),
        )


Rows = Sequence[ExampleRows]


class ExampleWriter:
    """Takes examples one after another; `finish` writes the file, whole or not at all.

    Counts are those of records, of which a preference pair has two examples.
    """

    def __init__(self, path: Path, examples_a_record: int = 1) -> None:
        self._examples_a_record = examples_a_record
        self._path = path
        self._open = ExitStack()
        self._input_ids, self._labels = self._temporary(), self._temporary()
        self._figures = bytearray()  # a _FIGURES row per example
        self._dropped = np.zeros(0, dtype=bool)
        self.sha256 = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, example: Example) -> None:
        """Add an example; an empty one is only counted."""
        self.extend(ExampleRows.of([(0, example)]))

    def extend(self, rows: "ExampleRows", before: int = 0) -> None:
        """Add examples; `before` is the number of positions that come before theirs."""
        figures = rows.figures.copy()
        figures["position"] += before
        self._figures += figures.tobytes()
        self._input_ids.write(rows.input_ids)
        self._labels.write(rows.labels)

    def leave_out(self, dropped: bytearray) -> None:
        """Drop the examples at whose position there is a 1, from the file and the counts."""
        self._dropped = np.frombuffer(dropped, dtype=bool)

    @property
    def counts(self) -> ExampleCounts:
        """The counts so far."""
        kept = self._rows()[self._kept()]
        copies = kept["copies"]
        counts = ExampleCounts(
            conversations=int(copies.sum()),
            too_long_conversations=int(copies[kept["tokens"] == 0].sum()),
            too_long_answers=int((copies * kept["dropped_answers"]).sum()),
            tokens=int((copies * kept["tokens"]).sum()),
            learned_tokens=int((copies * kept["learned"]).sum()),
        )
        return counts.of_records(self._examples_a_record)

    @property
    def largest_id(self) -> int:
        """The largest token id of the examples kept."""
        return int(self._rows()["largest_id"][self._copies() > 0].max(initial=0))

    @property
    def given(self) -> int:
        """The number of conversations kept, before weights."""
        return int(self._kept().sum()) // self._examples_a_record

    def finish(self) -> ExampleCounts:
        """Write the file and set `sha256`. Raises DataError if nothing is left to train on."""
        counts = self.counts
        if not counts.examples:
            raise DataError(
                "Nothing is left to learn.",
                where=self._path.name,
                **self._cause(counts),
            )
        tokens, copies = self._rows()["tokens"], self._copies()
        learned = np.where(tokens > 0, copies, 0)
        starts = np.concatenate(([0], np.cumsum(_lengths(tokens, learned))))
        partial = self._path.with_name(TEMPORARY + self._path.name)
        with names_path(partial), partial.open("wb") as file:
            out = _Hashed(file)
            out.write(_header(starts=len(starts), tokens=counts.tokens))
            out.write(starts.astype("<i8").tobytes())
            for whole in (self._input_ids, self._labels):
                for start, stop in _ranges(tokens, learned):
                    _copy(whole, _TOKEN_BYTES * start, _TOKEN_BYTES * stop, out)
        self.sha256 = out.sha256.hexdigest()
        fsync_file(partial)
        partial.rename(self._path)
        fsync_directory(self._path.parent)
        return counts

    def _rows(self) -> NDArray[np.void]:
        return np.frombuffer(bytes(self._figures), _FIGURES)

    def _kept(self) -> NDArray[np.bool_]:
        positions = self._rows()["position"]
        kept = np.ones(len(positions), dtype=bool)
        known = positions < len(self._dropped)
        kept[known] = ~self._dropped[positions[known]]
        return kept

    def _copies(self) -> NDArray[np.int64]:
        """Return how often the file holds each example."""
        return np.where(self._kept(), self._rows()["copies"], 0)

    def _cause(self, counts: ExampleCounts) -> dict[str, str]:
        too_long = counts.too_long_conversations
        what = "pairs" if self._examples_a_record > 1 else "conversations"
        if self.given and not counts.conversations:
            return {
                "found": f"weights that leave out all {self.given} {what}",
                "next_step": f"Raise the weights in finetune.data, or bring more {what}.",
            }
        if not too_long:
            return {"found": f"no {what}", "next_step": f"Bring {what} to learn from."}
        fit = "both answers fit" if what == "pairs" else "the first answer fits"
        return {
            "found": f"{too_long} {what}, and in none {fit} whole",
            "next_step": f"Raise finetune.max_length_tokens, or take shorter {what}.",
        }

    def _temporary(self) -> IO[bytes]:
        return self._open.enter_context(
            tempfile.TemporaryFile(dir=self._path.parent, prefix=TEMPORARY)
        )


class ExampleWriters:
    """A file of examples for training and one for validation.

    `validation_share` (0 to 1) as in `split.is_validation`.
    """

    def __init__(
        self,
        training: Path,
        validation: Path,
        validation_share: float,
        *,
        examples_a_record: int = 1,
    ) -> None:
        self.training = ExampleWriter(training, examples_a_record)
        self.validation = ExampleWriter(validation, examples_a_record)
        self.validation_share = validation_share

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.training.__exit__()
        self.validation.__exit__()

    def extend(self, training: Rows, validation: Rows, before: int) -> None:
        """Add examples to both; `before` is the number of positions that come before theirs."""
        for writer, of_side in ((self.training, training), (self.validation, validation)):
            for rows in of_side:
                writer.extend(rows, before)

    def leave_out(self, dropped: bytearray) -> None:
        """Drop the examples at whose position there is a 1 from both files."""
        self.training.leave_out(dropped)
        self.validation.leave_out(dropped)


class _Hashed:
    """A file written sequentially, and the SHA-256 of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)


def _rounds(copies: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of the examples that the file holds once, twice, and so on."""
    return (copies >= number for number in range(1, int(copies.max(initial=0)) + 1))


def _lengths(tokens: NDArray[np.int64], copies: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the lengths of all examples, in the order of the file."""
    lengths, at = np.empty(int(copies.sum()), np.int64), 0
    for some in _rounds(copies):
        of_round = tokens[some]
        lengths[at : at + len(of_round)] = of_round
        at += len(of_round)
    return lengths


def _ranges(tokens: NDArray[np.int64], copies: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield [start, stop) in tokens of each run of kept examples, round by round."""
    ends = np.concatenate(([0], np.cumsum(tokens)))
    for kept in _rounds(copies):
        turns = np.flatnonzero(np.diff(np.concatenate(([False], kept, [False]))))
        for first, last in turns.reshape(-1, 2).tolist():
            yield int(ends[first]), int(ends[last])


def _copy(whole: IO[bytes], start: int, stop: int, out: _Hashed) -> None:
    whole.seek(start)
    for at in range(start, stop, CHUNK_BYTES):
        out.write(whole.read(min(CHUNK_BYTES, stop - at)))


def _header(*, starts: int, tokens: int) -> bytes:
    """Return the header of a safetensors file; the tensors follow it in this order.

    The library's own `save` needs all of them in memory at once.
    Source: https://huggingface.co/docs/safetensors, "Format".
    """
    header: dict[str, object] = {}
    at = 0
    for name, dtype, length, size in (
        ("starts", "I64", starts, 8),  # first, as it must be aligned to 8 bytes
        ("input_ids", "I32", tokens, _TOKEN_BYTES),
        ("labels", "I32", tokens, _TOKEN_BYTES),
    ):
        stop = at + length * size
        header[name] = {"dtype": dtype, "shape": [length], "data_offsets": [at, stop]}
        at = stop
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    return len(described).to_bytes(8, "little") + described
