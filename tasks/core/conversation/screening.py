"""Which records of a file are fit to learn from: every rule, in bounded memory.

Reads the file once to judge it (`judging`, in several processes where it is large), and puts
together what was found, in the file's order. The invariant: a record is either kept or named with
its fault, and `conversations` yields exactly the kept ones; so what `kawan-usaha data check` shows
is what training and evaluation get, however many processes have looked.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.core.conversation.duplicates import Duplicate, DuplicateFinder
from tasks.core.conversation.examples import ExampleWriters
from tasks.core.conversation.judging import Judge, Judgement
from tasks.core.conversation.labels import Encoder
from tasks.core.conversation.lengths import Lengths, Size
from tasks.core.conversation.pieces import computed_pieces
from tasks.core.conversation.reading import require_fastchat, scan
from tasks.core.conversation.records import BadRecord, Conversation, Fault
from tasks.core.conversation.remedies import Section, remedy
from tasks.core.errors import DataError
from tasks.core.progress import Report, silent
from tasks.core.recipe import Evaluate, Finetune

_SHOWN_FAULTS = 10


@dataclass(frozen=True)
class Rules:
    """What is asked of a file beside its form. `language` None accepts every language.

    `section` is the part of the recipe that the limits stand in.
    """

    language: str | None = "id"
    merge_neighbours: bool = False
    max_dropped_share: float = 0.02
    section: Section = "finetune"

    @classmethod
    def of(cls, settings: Finetune) -> "Rules":
        """Return the rules of a recipe for its training data."""
        return cls(settings.language, settings.same_speaker == "merge", settings.max_dropped_share)

    @classmethod
    def of_held_out(cls, settings: Evaluate) -> "Rules":
        """Return the rules of a recipe for its held-out conversations, in whatever language."""
        return cls(None, max_dropped_share=settings.max_dropped_share, section="evaluate")


@dataclass(frozen=True)
class Screening:
    """What was found in a file. Turns, characters, tokens and lengths are those of kept records."""

    path: Path
    rules: Rules
    records: int
    faults: Mapping[Fault, int]
    first_bad: tuple[BadRecord, ...]
    total: Size
    lengths: Lengths
    dropped_positions: bytearray
    """At each position 1 where the record was dropped."""

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
            where=self.path,
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
        steps.append(f"`kawan-usaha data check {self.path}` names every record.")
        if self.kept:
            enough = math.ceil(1000 * self.dropped_share) / 1000
            steps.append(f"Or go on without them: {section}.max_dropped_share: {enough:g}.")
        return " ".join(steps)

    def conversations(self) -> Iterator[tuple[int, Conversation]]:
        """Yield the kept conversations, each with its position in the file.

        Raises DataError if the file is no longer what it was.
        """
        count = 0
        for position, record in scan(self.path, merge_neighbours=self.rules.merge_neighbours):
            if isinstance(record, Conversation) and not _is_set(self.dropped_positions, position):
                count += 1
                yield position, record
        if count != self.kept:
            raise DataError(
                "The file was changed while it was read.",
                where=self.path,
                expected=f"{self.kept} usable records",
                found=count,
                next_step="Run again when nothing writes into the file.",
            )


def screen(
    path: Path,
    rules: Rules,
    *,
    encoder: Encoder | None = None,
    others: Sequence[Encoder] = (),
    on_bad: Callable[[BadRecord], None] | None = None,
    examples: ExampleWriters | None = None,
    processes: int | None = None,
    report: Report = silent,
) -> Screening:
    """Return what is in the file. Whether it is acceptable is another question.

    Without an encoder neither tokens are counted nor lengths judged; `others` are those of more
    models, which must be able to take a record as well. `on_bad` gets every bad record
    when it is found: those that a duplicate makes bad come last. `examples` get the tokens of what
    is kept. `report` counts the bytes read. A large file is divided among as many processes as
    there are cores to use, unless told otherwise; what is found is the same. Raises DataError when
    the file cannot be opened, RecipeError for an unknown language.
    """
    judge = Judge(
        language=rules.language,
        merge_neighbours=rules.merge_neighbours,
        encoders=[encoder, *others] if encoder else [],
        validation_share=examples.validation_share if examples else None,
    )
    tally = _Tally(Lengths("tokens" if encoder else "characters"), on_bad)
    require_fastchat(path)
    with DuplicateFinder() as finder:
        for judgement in computed_pieces(judge, path, processes=processes, report=report):
            finder.add(judgement.signed, before=tally.positions)
            if examples is not None:
                examples.extend(judgement.training, judgement.validation, tally.positions)
            tally.add(judgement)
        for duplicate in finder.duplicates():
            tally.take_back(duplicate)
    if examples is not None:
        examples.leave_out(tally.dropped)
    return tally.screening(path, rules)


class _Tally:
    """Figures that grow with every piece."""

    def __init__(self, lengths: Lengths, on_bad: Callable[[BadRecord], None] | None) -> None:
        self.positions = 0
        self.dropped = bytearray()
        self._records = 0
        self._lengths = lengths
        self._on_bad = on_bad
        self._total = Counter[str]()
        self._faults = Counter[Fault]()
        self._first_bad: list[BadRecord] = []

    def add(self, judgement: Judgement) -> None:
        for bad in judgement.bad:
            self._drop(replace(bad, position=bad.position + self.positions))
        self._total.update(judgement.total)
        self._lengths.merge(judgement.lengths)
        self._records += judgement.records
        self.positions += judgement.positions

    def take_back(self, duplicate: Duplicate) -> None:
        self._total.subtract(vars(duplicate.size))
        self._lengths.remove(duplicate.size.length(self._lengths.unit))
        self._drop(_bad_duplicate(duplicate))

    def _drop(self, bad: BadRecord) -> None:
        self._faults[bad.fault] += 1
        if len(self._first_bad) < _SHOWN_FAULTS:
            self._first_bad.append(bad)
        self.dropped.extend(bytes(max(0, bad.position + 1 - len(self.dropped))))
        self.dropped[bad.position] = 1
        if self._on_bad is not None:
            self._on_bad(bad)

    def screening(self, path: Path, rules: Rules) -> Screening:
        return Screening(
            path,
            rules,
            self._records,
            dict(self._faults),
            tuple(self._first_bad),
            Size(**{"turns": 0, "characters": 0, **self._total}),
            self._lengths,
            self.dropped,
        )


def _bad_duplicate(found: Duplicate) -> BadRecord:
    fault = Fault.DUPLICATE if found.exact else Fault.NEAR_DUPLICATE
    says = "the same as" if found.exact else "almost the same as"
    reason = f"says {says} record {found.original_position} ({found.original_id})"
    return BadRecord(found.position, found.id, fault, reason)


def _is_set(marks: bytearray, position: int) -> bool:
    return position < len(marks) and bool(marks[position])
