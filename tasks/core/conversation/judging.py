"""One piece of a file judged: all that can be said of its records without the other pieces.

Pure but for the reading: processes can judge pieces at once, and what each says is put together in
the pieces' order (`screening`). Positions count from the beginning of the piece.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from tasks.core.conversation.chunks import Chunk
from tasks.core.conversation.examples import ExampleRows
from tasks.core.conversation.json_values import ChunkValues
from tasks.core.conversation.labels import Encoder, Example
from tasks.core.conversation.language import LanguageCheck
from tasks.core.conversation.lengths import Lengths, Size, Unit
from tasks.core.conversation.personal_data import find_personal_data
from tasks.core.conversation.records import BadRecord, Conversation, Fault, parse_record
from tasks.core.conversation.signatures import Signed, signed
from tasks.core.conversation.split import is_validation
from tasks.core.errors import DataError

_RECORDS_AT_ONCE = 256


@dataclass
class Judgement:
    """What was found in a piece; `positions` and `broken` as `ChunkValues` has them."""

    lengths: Lengths
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
        """Count a record that is fit to learn from."""
        self.total.update(vars(size))
        self.lengths.add(size.length(self.lengths.unit))


class Judge:
    """Judges pieces by the rules that ask for one record at a time."""

    def __init__(
        self,
        *,
        language: str | None,
        merge_neighbours: bool,
        encoders: Sequence[Encoder] = (),
        validation_share: float | None = None,
    ) -> None:
        """With a `validation_share` each record's tokens are kept, and which side it stands on."""
        self._language = language
        self._merge_neighbours = merge_neighbours
        self._encoders = encoders
        self._validation_share = validation_share
        self._check: LanguageCheck | None = None

    def load(self) -> None:
        """Read the model of languages. Raises RecipeError for a code that it does not know."""
        if self._language and self._check is None:
            self._check = LanguageCheck(self._language)

    def __call__(self, chunk: Chunk) -> Judgement:
        """Return what is in a piece. Raises OSError when it cannot be read, RecipeError."""
        self.load()
        unit: Unit = "tokens" if self._encoders else "characters"
        found = Judgement(Lengths(unit), done_bytes=chunk.done_bytes)
        values = ChunkValues(chunk)
        records = self._parsed(values)
        while some := list(islice(records, _RECORDS_AT_ONCE)):
            self._judge(some, found)
        found.positions, found.broken = values.positions, values.broken
        return found

    def _parsed(self, values: ChunkValues) -> Iterator[tuple[int, Conversation | BadRecord]]:
        for position, value in values:
            if isinstance(value, BadRecord):
                yield position, value
            else:
                merge = self._merge_neighbours
                yield position, parse_record(value, position, merge_neighbours=merge)

    def _judge(
        self, records: Sequence[tuple[int, Conversation | BadRecord]], found: Judgement
    ) -> None:
        found.records += len(records)
        good = [(at, each) for at, each in records if isinstance(each, Conversation)]
        bad = {at: each for at, each in records if isinstance(each, BadRecord)}
        bad |= _named(good, [_personal_data(each) for _, each in good])
        if self._check is not None:
            good = [(at, each) for at, each in good if at not in bad]
            others = self._check.other_languages([each for _, each in good])
            bad |= _named(good, [self._foreign(other) for other in others])
        good = [(at, each) for at, each in good if at not in bad]
        sizes, examples = self._sizes(good, bad)
        good = [(at, each) for at, each in good if at not in bad]
        found.bad += [bad[at] for at, _ in records if at in bad]
        for at, _ in good:
            found.count(sizes[at])
        more = signed([(at, each, sizes[at]) for at, each in good])
        found.signed = np.concatenate([found.signed, more])
        if self._validation_share is not None:
            self._divide(good, examples, found)

    def _divide(
        self,
        good: Sequence[tuple[int, Conversation]],
        examples: Mapping[int, Example],
        found: Judgement,
    ) -> None:
        share = self._validation_share or 0.0
        apart = {at for at, each in good if is_validation(each, share)}
        for side, wanted in ((found.training, False), (found.validation, True)):
            rows = [(at, examples[at]) for at, _ in good if (at in apart) == wanted]
            side.append(ExampleRows.of(rows))

    def _sizes(
        self, good: Sequence[tuple[int, Conversation]], bad: dict[int, BadRecord]
    ) -> tuple[dict[int, Size], dict[int, Example]]:
        """Return size and tokens by position; name in `bad` what the tokenizers cannot take."""
        sizes = {
            at: Size(len(each.turns), sum(len(turn.text) for turn in each.turns))
            for at, each in good
        }
        examples: dict[int, Example] = {}
        for number, encoder in enumerate(self._encoders):
            good = [(at, each) for at, each in good if at not in bad]
            encoded = encoder.encode_all([each for _, each in good])
            bad |= _named(good, [_unfit(example) for example in encoded])
            if number == 0:
                for (at, _), one in zip(good, encoded, strict=True):
                    if isinstance(one, Example):
                        examples[at], sizes[at] = one, _with_tokens(sizes[at], one)
        return sizes, examples

    def _foreign(self, other: str | None) -> tuple[Fault, str] | None:
        if other is None:
            return None
        return Fault.OTHER_LANGUAGE, f"seems to be in `{other}`, not in `{self._language}`"


def _named(
    records: Sequence[tuple[int, Conversation]], faults: Sequence[tuple[Fault, str] | None]
) -> dict[int, BadRecord]:
    return {
        at: BadRecord(at, record.id, *fault)
        for (at, record), fault in zip(records, faults, strict=True)
        if fault is not None
    }


def _personal_data(record: Conversation) -> tuple[Fault, str] | None:
    for place, text in record.texts():
        if found := find_personal_data(text):
            return Fault.PERSONAL_DATA, f"{place} holds {found}"
    return None


def _unfit(example: Example | DataError) -> tuple[Fault, str] | None:
    if isinstance(example, DataError):
        place = (example.where or "").rpartition(", ")[2]
        reason = f"{place} holds {example.found}, which is a mark of the template or tokenizer"
        return Fault.MARK_IN_TEXT, reason
    if not example.input_ids:
        reason = f"the first answer does not fit; all are {example.dropped_tokens} tokens long"
        return Fault.TOO_LONG, reason
    return None


def _with_tokens(size: Size, example: Example) -> Size:
    return replace(
        size,
        tokens=len(example.input_ids),
        learned_tokens=example.learned_tokens,
        truncated_tokens=example.dropped_tokens,
    )
