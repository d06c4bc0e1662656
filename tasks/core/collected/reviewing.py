"""What the team decides of collected answers: which one comes next, and what was decided.

The invariant: a decision is written only for an answer that is kept in that moment, and never over
another decision that its reviewer has not seen.
"""

import heapq
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from tasks.core.collected.finding import find_answer
from tasks.core.collected.lines import LineSpan
from tasks.core.collected.opinions import find, latest_review
from tasks.core.collected.outlines import Outline, goodness_of, outlines, whole
from tasks.core.collected.place import REVIEWS, day_files, held
from tasks.core.collected.placeholders import names_behind_placeholders
from tasks.core.collected.reading import Collected
from tasks.core.collected.records import CollectedAnswer, Decision, Review, line_of
from tasks.core.collected.redaction import names_in, redacted
from tasks.core.collected.writing import append
from tasks.core.errors import DecidedMeanwhile, NotCollected, UsageError
from tasks.core.files.locks import WAIT_S

Which = Literal["waiting", "reviewed", "all"]

_CURSOR = re.compile(r"([01])\.([0-2])\.(-?\d{1,18})\.([\w.-]{1,128})", re.ASCII)
_MICROSECONDS = 1_000_000
_FREE_READS = 3
"""So often a list is read without the lock, until nothing was deleted meanwhile."""


class Rank(NamedTuple):
    """Where an answer stands in the order of review; the smallest comes first."""

    reviewed: int
    goodness: int
    age: int
    id: str

    @classmethod
    def of(cls, found: Collected) -> "Rank":
        """Return it: unreviewed before reviewed, the worst rated first, then the newest."""
        answer, goodness = found.answer, goodness_of(found.rating)
        return cls(int(found.review is not None), goodness, _age(answer.time), answer.id)

    @classmethod
    def of_outline(cls, found: Outline) -> "Rank":
        """Return the same of an answer that was not read."""
        return cls(int(found.is_reviewed), found.goodness, _age(found.time), found.id)

    @classmethod
    def read(cls, text: str) -> "Rank":
        """Return the rank that `str` has written. Raises UsageError for any other text."""
        fields = _CURSOR.fullmatch(text)
        if fields is None:
            raise UsageError(
                "This is no place in the list of answers.",
                found=repr(text[:80]),
                next_step="Take it from the list as it is, or leave it out to begin at the head.",
            )
        reviewed, goodness, age, name = fields.groups()
        return cls(int(reviewed), int(goodness), int(age), name)

    def __str__(self) -> str:
        """Return it as a word."""
        return ".".join(map(str, self))


@dataclass(frozen=True)
class Listing:
    """A part of what there is to review, in order; `waiting` counts all that nobody has reviewed.

    after is where the next part begins, None at the end.
    """

    items: tuple[Collected, ...]
    waiting: int
    after: Rank | None


@dataclass(frozen=True)
class Opinion:
    """What a reviewer decides of an answer.

    answer is what is to be learned in its place, None where it is good as it is. seen is when the
    decision was made that the reviewer knew of, None where there was none.
    """

    id: str
    decision: Decision
    answer: str | None = None
    seen: datetime | None = None


def to_review(
    directory: Path,
    *,
    limit: int,
    after: Rank | None = None,
    which: Which = "waiting",
    wait_s: float = WAIT_S,
) -> Listing:
    """Return the answers that are to be reviewed next, at most limit; no others stay in memory.

    Raises LockBusy and OSError.
    """
    if not directory.is_dir():
        return Listing((), 0, None)
    for _ in range(_FREE_READS):  # a lock would keep new answers from the disk meanwhile
        with suppress(ValidationError, FileNotFoundError):
            before = _files_of(directory)
            listing = _listed(directory, limit, after, which)
            if _files_of(directory)[: len(before)] == before:
                return listing
    with held(directory, "review", shared=True, wait_s=wait_s):
        return _listed(directory, limit, after, which)


def _listed(directory: Path, limit: int, after: Rank | None, which: Which) -> Listing:
    """Return the list; what is shown is read whole, and what is no answer then is left out."""
    bad: set[LineSpan] = set()
    while True:
        counted = _Counted(each for each in outlines(directory) if each.places[0] not in bad)
        wanted = (found for found in counted if _is_of(found, which))
        behind = (found for found in wanted if after is None or Rank.of_outline(found) > after)
        first = heapq.nsmallest(limit + 1, behind, key=Rank.of_outline)
        shown = first[:limit]
        items = [(each, _whole_or_none(each)) for each in shown]
        new = {each.places[0] for each, item in items if item is None}
        if not new:
            last = Rank.of_outline(shown[-1]) if shown and len(first) > limit else None
            found = tuple(item for _, item in items if item is not None)
            return Listing(found, counted.waiting, last)
        bad |= new


def _whole_or_none(outline: Outline) -> Collected | None:
    try:
        return whole(outline)
    except ValidationError:
        return None


def _files_of(directory: Path) -> list[int]:
    """Return which files are read: other ones are there after a deletion, at other inodes."""
    reviews = directory / REVIEWS
    files = [*([reviews] if reviews.exists() else []), *day_files(directory)]
    return [path.stat().st_ino for path in files]


def look(directory: Path, answer_id: str) -> Collected:
    """Return one answer with what was said of it. Raises NotCollected."""
    found = find(directory, answer_id)
    if found is not None:
        return found
    raise _not_kept(directory, answer_id)


def decide(directory: Path, opinion: Opinion, reviewer: str, *, wait_s: float = WAIT_S) -> Review:
    """Write a decision down and return it once it is on the disk.

    Raises NotCollected for an answer that is not kept, DecidedMeanwhile where somebody else has
    decided since the reviewer looked, LockBusy and OSError.
    """
    if not directory.is_dir():
        raise _not_kept(directory, opinion.id)
    with held(directory, "review", shared=True, wait_s=wait_s):
        answer = _found(directory, opinion.id)
    edited = _edited(answer.answer, opinion)  # without the lock: it may take a second
    with held(directory, "review", wait_s=wait_s):
        # Again, or what was deleted meanwhile would stand on the disk again.
        answer = _found(directory, opinion.id)
        _require_seen(latest_review(directory, answer), opinion)
        review = Review(
            id=answer.id,
            person=answer.person,
            time=datetime.now(UTC),
            reviewer=reviewer,
            decision=opinion.decision,
            answer=edited,
        )
        append(directory / REVIEWS, line_of(review))
    return review


def _found(directory: Path, answer_id: str) -> CollectedAnswer:
    answer = find_answer(directory, answer_id)
    if answer is None:
        raise _not_kept(directory, answer_id)
    return answer


class _Counted:
    """An iterable of outlines that counts those of answers which nobody has reviewed."""

    def __init__(self, answers: Iterable[Outline]) -> None:
        self._answers = answers
        self.waiting = 0

    def __iter__(self) -> Iterator[Outline]:
        for found in self._answers:
            self.waiting += not found.is_reviewed
            yield found


def _age(time: datetime) -> int:
    return -round(time.timestamp() * _MICROSECONDS)


def _is_of(found: Outline, which: Which) -> bool:
    return which == "all" or found.is_reviewed == (which == "reviewed")


def _edited(served: str, opinion: Opinion) -> str | None:
    """Return what is to be learned, without personal data; None where it is what was served."""
    if opinion.answer is None or opinion.decision == "reject":
        return None
    if not opinion.answer.strip():
        raise UsageError(
            "An answer without a word cannot be learned.",
            where=opinion.id,
            next_step="Write what is to be learned, or reject the answer.",
        )
    if opinion.answer == served:
        return None
    names = names_in((), opinion.answer) | names_behind_placeholders(served, opinion.answer)
    return redacted(opinion.answer, names)


def _require_seen(review: Review | None, opinion: Opinion) -> None:
    if review is not None and review.time != opinion.seen:
        raise DecidedMeanwhile(
            "Somebody else has decided about this answer meanwhile.",
            where=opinion.id,
            found=f"{review.decision}, by {review.reviewer} at {review.time:%F %T} UTC",
            next_step="Look at it again, and decide again if you see it otherwise.",
        )


def _not_kept(directory: Path, answer_id: str) -> NotCollected:
    return NotCollected(
        "No such answer is kept.",
        where=directory,
        found=answer_id,
        next_step="It was deleted, or is older than what is kept; `kawan-usaha data review "
        "DEPLOYMENT --list` shows what there is.",
    )
