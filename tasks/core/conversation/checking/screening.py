"""Which records are fit to train on: every rule, over all files together, in bounded memory.

Reads the files once (`chunk_check`, in several processes if they are large) and merges the findings
in the order of the records. The invariant: a record is either kept or reported with its fault, and
`conversations` yields exactly the kept ones, so that `kawan-usaha data check` shows what training
and evaluation get, however many processes were used.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tasks.core.conversation.checking.chunk_check import ChunkChecker, ChunkFindings
from tasks.core.conversation.checking.duplicates import Duplicate, DuplicateFinder
from tasks.core.conversation.checking.findings import FileFindings, Screening
from tasks.core.conversation.checking.lengths import Lengths, Size
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.examples.writer import ExampleWriters
from tasks.core.conversation.reading.data_files import Data, DataFile, detect_formats
from tasks.core.conversation.reading.parallel import map_chunks
from tasks.core.conversation.reading.positions import Positions
from tasks.core.conversation.records import BadRecord, RecordFault, record_location
from tasks.core.progress import OnProgress, silent

_SHOWN_FAULTS = 10


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
    """Check every record of the data; the caller decides whether the result is acceptable.

    All files are checked together: a record that repeats one of an earlier file is a duplicate.
    Without an encoder no tokens are counted and no length is checked; `others` are the encoders of
    further models that must be able to take a record too. `on_bad` is called with each bad record
    when it is found, duplicates last. `examples` receives the tokens of kept records, as often as
    the weight of their file says. `on_progress` counts bytes. Large files are divided among
    `processes`, by default one per usable core; the result is the same. Raises DataError if a file
    cannot be opened or is in a format that cannot be read, RecipeError for an unknown language.
    """
    files = detect_formats(data, rules.method)
    check = ChunkChecker(
        files,
        language=rules.language,
        merge_neighbours=rules.merge_neighbours,
        encoders=[encoder, *others] if encoder else [],
        validation_share=examples.validation_share if examples else None,
    )
    tally = _Tally(files, Lengths("tokens" if encoder else "characters"), on_bad)
    paths = [each.path for each in files]
    with DuplicateFinder() as finder:
        for found in map_chunks(check, paths, processes=processes, on_progress=on_progress):
            finder.add(found.signed, before=tally.positions)
            if examples is not None:
                examples.extend(found.training, found.validation, tally.positions)
            tally.add(found)
        for duplicate in finder.duplicates():
            tally.take_back(duplicate)
    if examples is not None:
        examples.leave_out(tally.dropped)
    return tally.screening(rules)


class _Tally:
    """The findings of the chunks so far, added up."""

    def __init__(
        self,
        files: Sequence[DataFile],
        lengths: Lengths,
        on_bad: Callable[[BadRecord], None] | None,
    ) -> None:
        self.positions = 0
        self.dropped = bytearray()
        self._files, self._positions_of = files, Positions(files)
        self._records, self._dropped_of = Counter[int](), Counter[int]()
        self._lengths = lengths
        self._on_bad = on_bad
        self._total = Counter[str]()
        self._faults = Counter[RecordFault]()
        self._first_bad: list[BadRecord] = []

    def add(self, found: ChunkFindings) -> None:
        self._positions_of.begin(found.file, self.positions)
        for bad in found.bad:
            self._drop(bad, bad.position + self.positions)
        self._total.update(found.total)
        self._lengths.merge(found.lengths)
        self._records[found.file] += found.records
        self.positions += found.positions

    def take_back(self, duplicate: Duplicate) -> None:
        self._total.subtract(vars(duplicate.size))
        self._lengths.remove(duplicate.size.length(self._lengths.unit))
        first = self._positions_of.of(duplicate.original_position)
        self._drop(_bad_duplicate(duplicate, record_location(*first)), duplicate.position)

    def _drop(self, found: BadRecord, position: int) -> None:
        """Drop the record at a position among all records."""
        at, name = self._positions_of.of(position)
        bad = replace(found, position=at, file=name)
        self._faults[bad.fault] += 1
        self._dropped_of[self._positions_of.file_of(position)] += 1
        if len(self._first_bad) < _SHOWN_FAULTS:
            self._first_bad.append(bad)
        self.dropped.extend(bytes(max(0, position + 1 - len(self.dropped))))
        self.dropped[position] = 1
        if self._on_bad is not None:
            self._on_bad(bad)

    def screening(self, rules: Rules) -> Screening:
        self._positions_of.begin(len(self._files) - 1, self.positions)
        return Screening(
            tuple(
                FileFindings(
                    file,
                    self._positions_of.start(number),
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
    fault = RecordFault.DUPLICATE if found.exact else RecordFault.NEAR_DUPLICATE
    says = "the same as" if found.exact else "almost the same as"
    reason = f"says {says} {original} ({found.original_id})"
    return BadRecord(found.position, found.id, fault, reason)
