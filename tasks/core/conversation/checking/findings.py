"""What a screening found: counts, the first bad records, and the records that were kept."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks.core.conversation.checking.check_command import check_command
from tasks.core.conversation.checking.lengths import Lengths, Size
from tasks.core.conversation.checking.remedies import remedy
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.reading.scan import scan
from tasks.core.conversation.records import BadRecord, Conversation, RecordFault
from tasks.core.errors import DataError


@dataclass(frozen=True)
class FileFindings:
    """The counts of one file. `before` is the number of positions in the files before it."""

    file: DataFile
    before: int
    records: int
    dropped: int


@dataclass(frozen=True)
class Screening:
    """The findings. Turns, characters, tokens and lengths count kept records only.

    Positions continue from file to file; a bad record has the position in its own file.
    """

    files: tuple[FileFindings, ...]
    rules: Rules
    records: int
    faults: Mapping[RecordFault, int]
    first_bad: tuple[BadRecord, ...]
    total: Size
    lengths: Lengths
    dropped_positions: bytearray
    """1 at each position whose record was dropped."""

    @property
    def name(self) -> str:
        """The names of all files."""
        return ", ".join(each.file.name for each in self.files)

    @property
    def dropped(self) -> int:
        """The number of records dropped."""
        return sum(self.faults.values())

    @property
    def kept(self) -> int:
        """The number of records kept."""
        return self.records - self.dropped

    @property
    def dropped_share(self) -> float:
        """The dropped share of the records, 0 to 1, as far as the limit applies to it.

        A held-out record longer than the evaluation's limit is not faulty, and refusing the file
        would waste hours of training: it is dropped and counted, but not held against the limit.
        """
        excused = self.faults.get(RecordFault.TOO_LONG, 0) if self.rules.caller == "evaluate" else 0
        return (self.dropped - excused) / self.records if self.records else 0.0

    @property
    def acceptable(self) -> bool:
        """Whether any record is kept, and no more are dropped than the rules allow."""
        return self.kept > 0 and self.dropped_share <= self.rules.max_dropped_share

    def require_acceptable(self) -> None:
        """Raise DataError unless the files are acceptable."""
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
        """Return the remedies for the two commonest faults, and the limit that would suffice."""
        if not self.records:
            return "Check the program that wrote the file."
        caller = self.rules.caller
        commonest = sorted(self.faults, key=lambda fault: -self.faults[fault])[:2]
        steps = [remedy(fault, caller) for fault in commonest]
        command = check_command([each.file for each in self.files], self.rules.options)
        steps.append(f"{command} names every record.")
        if self.kept:
            enough = math.ceil(1000 * self.dropped_share) / 1000
            steps.append(f"Or continue without them: {caller}.max_dropped_share: {enough:g}.")
        return " ".join(steps)

    def conversations(self) -> Iterator[tuple[int, Conversation]]:
        """Yield the kept conversations with their positions among all records.

        Raises DataError if a file has changed since it was checked.
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


def _is_set(marks: bytearray, position: int) -> bool:
    return position < len(marks) and bool(marks[position])
