"""Which records are fit to learn from: every rule, over all files together, in bounded memory.

Reads the files once to judge them (`judging`, in several processes where they are large), and puts
together what was found, in their order. The invariant: a record is either kept or named with
its fault, and `conversations` yields exactly the kept ones; so what `kawan-usaha data check` shows
is what training and evaluation get, however many processes have looked.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.core.conversation.check_command import check_command
from tasks.core.conversation.data_files import Data, DataFile, looked_at
from tasks.core.conversation.duplicates import Duplicate, DuplicateFinder
from tasks.core.conversation.examples import ExampleWriters
from tasks.core.conversation.judging import Judge, Judgement
from tasks.core.conversation.labels import Encoder
from tasks.core.conversation.lengths import Lengths, Size
from tasks.core.conversation.pieces import computed_pieces
from tasks.core.conversation.positions import Positions
from tasks.core.conversation.preferences import Method
from tasks.core.conversation.reading import scan
from tasks.core.conversation.records import BadRecord, Conversation, Fault, place
from tasks.core.conversation.remedies import Section, remedy
from tasks.core.errors import DataError
from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Evaluate, Finetune

_SHOWN_FAULTS = 10


@dataclass(frozen=True)
class Rules:
    """What is asked of a file beside its form. `language` None accepts every language.

    `method` says if records must be conversations or preferences, None that either will do;
    `section` is the part of the recipe that the limits stand in.
    """

    language: str | None = "id"
    merge_neighbours: bool = False
    max_dropped_share: float = 0.02
    section: Section = "finetune"
    method: Method | None = "sft"

    @classmethod
    def of(cls, settings: Finetune) -> "Rules":
        """Return the rules of a recipe for its training data."""
        return cls(
            settings.language,
            settings.same_speaker == "merge",
            settings.max_dropped_share,
            method=settings.method,
        )

    @classmethod
    def of_held_out(cls, settings: Evaluate) -> "Rules":
        """Return the rules of a recipe for its held-out conversations, in whatever language."""
        return cls(None, max_dropped_share=settings.max_dropped_share, section="evaluate")


@dataclass(frozen=True)
class OfFile:
    """What was found in one of the files; its format is the one that it was read in.

    `before` are the positions of the files before it.
    """

    file: DataFile
    before: int
    records: int
    dropped: int


@dataclass(frozen=True)
class Screening:
    """What was found. Turns, characters, tokens and lengths are those of kept records.

    Positions count on from file to file; a bad record has the one in its own file.
    """

    files: tuple[OfFile, ...]
    rules: Rules
    records: int
    faults: Mapping[Fault, int]
    first_bad: tuple[BadRecord, ...]
    total: Size
    lengths: Lengths
    dropped_positions: bytearray
    """At each position 1 where the record was dropped."""

    @property
    def name(self) -> str:
        """What all that was read is called."""
        return ", ".join(each.file.name for each in self.files)

    @property
    def dropped(self) -> int:
        """How many records are not used."""
        return sum(self.faults.values())

    @property
    def kept(self) -> int:
        """How many records are used."""
        return self.records - self.dropped

    @property
    def dropped_share(self) -> float:
        """The share of the records, 0 to 1, that is not used, as far as it counts to the limit.

        A held-out record that is longer than the evaluation's setting has no fault, and a refusal
        would come after hours of training: it is set aside and counted, but refuses nothing.
        """
        excused = self.faults.get(Fault.TOO_LONG, 0) if self.rules.section == "evaluate" else 0
        return (self.dropped - excused) / self.records if self.records else 0.0

    @property
    def acceptable(self) -> bool:
        """Whether something is kept, and no more is dropped than the rules allow."""
        return self.kept > 0 and self.dropped_share <= self.rules.max_dropped_share

    def require_acceptable(self) -> None:
        """Raise DataError unless the file is acceptable."""
        if self.acceptable:
            return
        shown = "".join(f"\n    {record}" for record in self.first_bad)
        more = self.dropped - len(self.first_bad)
        raise DataError(
            f"{self.dropped} of {self.records} records cannot be used."
            + ("" if self.kept else " Nothing is left to learn."),
            where=self.name,
            expected=f"at most {self.rules.max_dropped_share:.1%} that cannot be used, and one "
            "that can",
            found=(shown + (f"\n    and {more} more" if more else "")) or "no record at all",
            next_step=self._next_step(),
        )

    def _next_step(self) -> str:
        """Return the remedies for what is commonest, and the limit only where that would do."""
        if not self.records:
            return "Check the program that wrote the file."
        section = self.rules.section
        commonest = sorted(self.faults, key=lambda fault: -self.faults[fault])[:2]
        steps = [remedy(fault, section) for fault in commonest]
        steps.append(f"{check_command([each.file for each in self.files])} names every record.")
        if self.kept:
            enough = math.ceil(1000 * self.dropped_share) / 1000
            steps.append(f"Or go on without them: {section}.max_dropped_share: {enough:g}.")
        return " ".join(steps)

    def conversations(self) -> Iterator[tuple[int, Conversation]]:
        """Yield the kept conversations, each with its position among all of them.

        Raises DataError if a file is no longer what it was.
        """
        count = 0
        for each in self.files:
            for at, record in scan(each.file, merge_neighbours=self.rules.merge_neighbours):
                position = each.before + at
                if isinstance(record, Conversation) and not _is_set(
                    self.dropped_positions, position
                ):
                    count += 1
                    yield position, record
        if count != self.kept:
            raise DataError(
                "The file was changed while it was read.",
                where=self.name,
                expected=f"{self.kept} usable records",
                found=count,
                next_step="Run again when nothing writes into the file.",
            )


def screen(
    data: Data,
    rules: Rules,
    *,
    encoder: Encoder | None = None,
    others: Sequence[Encoder] = (),
    on_bad: Callable[[BadRecord], None] | None = None,
    examples: ExampleWriters | None = None,
    processes: int | None = None,
    on_progress: OnProgress = silent,
) -> Screening:
    """Return what is in the data. Whether it is acceptable is another question.

    Of several files all are judged together: what one says again that stands in an earlier one is a
    duplicate. Without an encoder neither tokens are counted nor lengths judged; `others` are those
    of more models, which must be able to take a record as well. `on_bad` gets every bad record when
    it is found: those that a duplicate makes bad come last. `examples` get the tokens of what is
    kept, as often as the weight of its file says. `on_progress` counts the bytes read. Large files
    are divided among as many processes as there are cores to use, unless told otherwise; what is
    found is the same. Raises DataError when a file cannot be opened or is in a format that is not
    read, RecipeError for an unknown language.
    """
    files = looked_at(data, rules.method)
    judge = Judge(
        files,
        language=rules.language,
        merge_neighbours=rules.merge_neighbours,
        encoders=[encoder, *others] if encoder else [],
        validation_share=examples.validation_share if examples else None,
    )
    tally = _Tally(files, Lengths("tokens" if encoder else "characters"), on_bad)
    paths = [each.path for each in files]
    with DuplicateFinder() as finder:
        for judgement in computed_pieces(
            judge, paths, processes=processes, on_progress=on_progress
        ):
            finder.add(judgement.signed, before=tally.positions)
            if examples is not None:
                examples.extend(judgement.training, judgement.validation, tally.positions)
            tally.add(judgement)
        for duplicate in finder.duplicates():
            tally.take_back(duplicate)
    if examples is not None:
        examples.leave_out(tally.dropped)
    return tally.screening(rules)


class _Tally:
    """Figures that grow with every piece."""

    def __init__(
        self,
        files: Sequence[DataFile],
        lengths: Lengths,
        on_bad: Callable[[BadRecord], None] | None,
    ) -> None:
        self.positions = 0
        self.dropped = bytearray()
        self._files, self._places = files, Positions(files)
        self._records, self._dropped_of = Counter[int](), Counter[int]()
        self._lengths = lengths
        self._on_bad = on_bad
        self._total = Counter[str]()
        self._faults = Counter[Fault]()
        self._first_bad: list[BadRecord] = []

    def add(self, judgement: Judgement) -> None:
        self._places.begin(judgement.file, self.positions)
        for bad in judgement.bad:
            self._drop(bad, bad.position + self.positions)
        self._total.update(judgement.total)
        self._lengths.merge(judgement.lengths)
        self._records[judgement.file] += judgement.records
        self.positions += judgement.positions

    def take_back(self, duplicate: Duplicate) -> None:
        self._total.subtract(vars(duplicate.size))
        self._lengths.remove(duplicate.size.length(self._lengths.unit))
        first = self._places.of(duplicate.original_position)
        self._drop(_bad_duplicate(duplicate, place(*first)), duplicate.position)

    def _drop(self, found: BadRecord, position: int) -> None:
        """Drop the record at a position among all of them."""
        at, name = self._places.of(position)
        bad = replace(found, position=at, file=name)
        self._faults[bad.fault] += 1
        self._dropped_of[self._places.file_of(position)] += 1
        if len(self._first_bad) < _SHOWN_FAULTS:
            self._first_bad.append(bad)
        self.dropped.extend(bytes(max(0, position + 1 - len(self.dropped))))
        self.dropped[position] = 1
        if self._on_bad is not None:
            self._on_bad(bad)

    def screening(self, rules: Rules) -> Screening:
        self._places.begin(len(self._files) - 1, self.positions)
        return Screening(
            tuple(
                OfFile(
                    file,
                    self._places.start(number),
                    self._records[number],
                    self._dropped_of[number],
                )
                for number, file in enumerate(self._files)
            ),
            rules,
            self._records.total(),
            dict(self._faults),
            tuple(self._first_bad),
            Size(**{"turns": 0, "characters": 0, **self._total}),
            self._lengths,
            self.dropped,
        )


def _bad_duplicate(found: Duplicate, original: str) -> BadRecord:
    fault = Fault.DUPLICATE if found.exact else Fault.NEAR_DUPLICATE
    says = "the same as" if found.exact else "almost the same as"
    reason = f"says {says} {original} ({found.original_id})"
    return BadRecord(found.position, found.id, fault, reason)


def _is_set(marks: bytearray, position: int) -> bool:
    return position < len(marks) and bool(marks[position])
