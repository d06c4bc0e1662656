"""The check of one chunk of a file: every rule that needs one record at a time.

Pure except for reading, so that processes can check chunks concurrently; `screening` merges their
findings in order. Positions count from the beginning of the chunk.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from tasks.core.conversation.checking.language import LanguageCheck
from tasks.core.conversation.checking.lengths import Lengths, Size, Unit
from tasks.core.conversation.checking.signatures import Signed, signed
from tasks.core.conversation.examples.labels import Encoder, Example
from tasks.core.conversation.examples.pair_labels import Examples, encoded
from tasks.core.conversation.examples.split import copies_per_epoch, is_validation
from tasks.core.conversation.examples.writer import ExampleRows
from tasks.core.conversation.personal_data.find import find_personal_data
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.reading.chunks import Chunk
from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.reading.dialects import parse_as
from tasks.core.conversation.reading.json_values import ChunkValues
from tasks.core.conversation.records import BadRecord, Conversation, RecordFault
from tasks.core.conversation.template.render import MarkInText

_BATCH_RECORDS = 256


@dataclass
class ChunkFindings:
    """The findings in one chunk; `positions` and `broken` as in `ChunkValues`."""

    lengths: Lengths
    file: int = 0
    positions: int = 0
    broken: bool = False
    records: int = 0
    done_bytes: int = 0
    bad: list[BadRecord] = field(default_factory=list)
    total: Counter[str] = field(default_factory=Counter)
    signed: Signed = field(default_factory=lambda: signed([]))
    training: list[ExampleRows] = field(default_factory=list)
    validation: list[ExampleRows] = field(default_factory=list)

    def count(self, size: Size) -> None:
        """Count a record that is fit to train on."""
        self.total.update(vars(size))
        self.lengths.add(size.length(self.lengths.unit))


class ChunkChecker:
    """Checks chunks by the rules that need one record at a time."""

    def __init__(
        self,
        files: Sequence[DataFile],
        *,
        language: str | None,
        merge_neighbours: bool,
        encoders: Sequence[Encoder] = (),
        validation_share: float | None = None,
    ) -> None:
        """Take files whose formats are known.

        With a `validation_share` the tokens of each record are kept, divided into training and
        validation.
        """
        self._files = files
        self._language = language
        self._merge_neighbours = merge_neighbours
        self._encoders = encoders
        self._validation_share = validation_share
        self._language_check: LanguageCheck | None = None

    def load(self) -> None:
        """Load the language model. Raises RecipeError for a language that it does not know."""
        if self._language and self._language_check is None:
            self._language_check = LanguageCheck(self._language)

    def __call__(self, chunk: Chunk) -> ChunkFindings:
        """Return the findings in a chunk. Raises OSError if it cannot be read, and RecipeError."""
        self.load()
        unit: Unit = "tokens" if self._encoders else "characters"
        found = ChunkFindings(Lengths(unit), chunk.file, done_bytes=chunk.done_bytes)
        values, file = ChunkValues(chunk), self._files[chunk.file]
        records = self._parsed(values, file)
        while some := list(islice(records, _BATCH_RECORDS)):
            self._check_batch(some, file, found)
        found.positions, found.broken = values.positions, values.broken
        return found

    def _parsed(
        self, values: ChunkValues, file: DataFile
    ) -> Iterator[tuple[int, Conversation | BadRecord]]:
        read_as, merge = file.read_as, self._merge_neighbours
        for position, value in values:
            if isinstance(value, BadRecord):
                yield position, value
            else:
                yield position, parse_as(value, position, read_as, merge_neighbours=merge)

    def _check_batch(
        self,
        records: Sequence[tuple[int, Conversation | BadRecord]],
        file: DataFile,
        found: ChunkFindings,
    ) -> None:
        batch = _Batch(records)
        batch.drop([_personal_data(each) for each in batch.conversations])
        if self._language_check is not None:
            others = self._language_check.other_languages(batch.conversations)
            batch.drop([self._foreign(other) for other in others])
        examples = self._examples(batch)
        fit = [(at, each, _size(each, examples.get(at))) for at, each in batch.good]
        found.records += len(records)
        found.bad += [batch.bad[at] for at, _ in records if at in batch.bad]
        for _, _, size in fit:
            found.count(size)
        found.signed = np.concatenate([found.signed, signed(fit)])
        if self._validation_share is not None:
            self._divide(batch.good, self._validation_share, file.weight, examples, found)

    def _examples(self, batch: "_Batch") -> dict[int, Examples]:
        """Return the first encoder's examples by position; drop what any encoder cannot take."""
        examples: dict[int, Examples] = {}
        for encoder in self._encoders:
            made = encoded(encoder, batch.conversations)
            if not examples:
                pairs = zip(batch.good, made, strict=True)
                examples = {at: one for (at, _), one in pairs if isinstance(one, tuple)}
            batch.drop([_unfit(each) for each in made])
        return examples

    def _divide(
        self,
        good: Sequence[tuple[int, Conversation]],
        share: float,
        weight: float,
        examples: Mapping[int, Examples],
        found: ChunkFindings,
    ) -> None:
        apart = {at for at, each in good if is_validation(each, share)}
        learned = [(at, each) for at, each in good if at not in apart]
        sides = {at: copies_per_epoch(each, weight) for at, each in learned}
        times = [times for at, times in sides.items() for _ in examples[at]]
        found.training.append(ExampleRows.of(_rows(sides, examples), times))
        found.validation.append(
            ExampleRows.of(_rows([at for at, _ in good if at in apart], examples))
        )

    def _foreign(self, other: str | None) -> tuple[RecordFault, str] | None:
        if other is None:
            return None
        return RecordFault.OTHER_LANGUAGE, f"seems to be in `{other}`, not in `{self._language}`"


class _Batch:
    """Some records: those without a fault so far, and the faults of the others."""

    def __init__(self, records: Sequence[tuple[int, Conversation | BadRecord]]) -> None:
        self.good = [(at, each) for at, each in records if isinstance(each, Conversation)]
        self.bad = {at: each for at, each in records if isinstance(each, BadRecord)}

    @property
    def conversations(self) -> list[Conversation]:
        return [each for _, each in self.good]

    def drop(self, faults: Sequence[tuple[RecordFault, str] | None]) -> None:
        """Record the fault, if any, of each record that was good."""
        for (at, record), fault in zip(self.good, faults, strict=True):
            if fault is not None:
                self.bad[at] = BadRecord(at, record.id, *fault)
        self.good = [(at, each) for at, each in self.good if at not in self.bad]


def _rows(positions: Iterable[int], examples: Mapping[int, Examples]) -> list[tuple[int, Example]]:
    """Return the examples at these positions; the two of a preference stay together."""
    return [(at, example) for at in positions for example in examples[at]]


def _personal_data(record: Conversation) -> tuple[RecordFault, str] | None:
    for place, text in record.texts():
        if found := find_personal_data(text):
            return RecordFault.PERSONAL_DATA, f"{place} holds {found}"
    return None


def _unfit(examples: Examples | MarkInText) -> tuple[RecordFault, str] | None:
    if isinstance(examples, MarkInText):
        held = f"{examples.place} holds {examples.marks}"
        return RecordFault.MARK_IN_TEXT, f"{held}, which is a mark of the template or tokenizer"
    if all(example.input_ids for example in examples):
        return None
    lengths = [str(example.dropped_tokens) for example in examples]
    if len(lengths) == 1:
        reason = f"the first answer does not fit; all are {lengths[0]} tokens long"
    else:
        reason = f"not both answers fit whole; with them it is {' and '.join(lengths)} tokens long"
    return RecordFault.TOO_LONG, reason


def _size(record: Conversation, examples: Examples | None) -> Size:
    turns, characters = len(record.turns), sum(len(turn.text) for turn in record.turns)
    if isinstance(record, Preference):
        characters += len(record.rejected)
    if examples is None:
        return Size(turns, characters)
    tokens = sum(len(example.input_ids) for example in examples)
    learned = sum(example.learned_tokens for example in examples)
    return Size(turns, characters, tokens, learned, sum(e.dropped_tokens for e in examples))
