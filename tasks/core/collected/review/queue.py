"""The review queue: which collected answer comes next, and the decisions about them.

The invariant: a decision is written only for an answer that is kept at that moment, and never over
a decision that its reviewer has not seen.
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

from tasks.core.collected.privacy.placeholders import names_behind_placeholders
from tasks.core.collected.privacy.redaction import names_in, redacted
from tasks.core.collected.review.opinions import find_collected, latest_review
from tasks.core.collected.review.outlines import Outline, goodness_of, load_collected, outlines
from tasks.core.collected.review.reading import Collected
from tasks.core.collected.storage.directory import REVIEWS_FILE, day_files, directory_lock
from tasks.core.collected.storage.lines import LineSpan
from tasks.core.collected.storage.records import CollectedAnswer, Decision, Review, line_of
from tasks.core.collected.storage.search import find_answer
from tasks.core.collected.storage.writing import append
from tasks.core.errors import DecidedMeanwhile, NotCollected, UsageError
from tasks.core.files.locks import WAIT_S

Which = Literal["waiting", "reviewed", "all"]

_CURSOR = re.compile(r"([01])\.([0-2])\.(-?\d{1,18})\.([\w.-]{1,128})", re.ASCII)
_MICROSECONDS = 1_000_000
_FREE_READS = 3
"""How often a list is read without the lock, until nothing is deleted during a read."""


class Rank(NamedTuple):
    """The position of an answer in the order of review; the smallest comes first."""

    reviewed: int
    goodness: int
    age: int
    id: str

    @classmethod
    def of(cls, found: Collected) -> "Rank":
        """Return the rank: unreviewed before reviewed, the worst rated first, then the newest."""
        answer, goodness = found.answer, goodness_of(found.rating)
        return cls(int(found.review is not None), goodness, _age(answer.time), answer.id)

    @classmethod
    def of_outline(cls, found: Outline) -> "Rank":
        """Return the rank of an answer whose texts were not read."""
        return cls(int(found.is_reviewed), found.goodness, _age(found.time), found.id)

    @classmethod
    def read(cls, text: str) -> "Rank":
        """Parse what `str` returns. Raises UsageError for any other text."""
        fields = _CURSOR.fullmatch(text)
        if fields is None:
            raise UsageError(
                "This is not a valid position in the list of answers.",
                found=repr(text[:80]),
                next_step="Copy it from the list as it is, or leave it out to begin at the start.",
            )
        reviewed, goodness, age, name = fields.groups()
        return cls(int(reviewed), int(goodness), int(age), name)

    def __str__(self) -> str:
        """Return the rank as one word, for a cursor."""
        return ".".join(map(str, self))


@dataclass(frozen=True)
class Listing:
    """A page of the queue; `waiting` counts all answers that nobody has reviewed.

    after is where the next page begins, None on the last page.
    """

    items: tuple[Collected, ...]
    waiting: int
    after: Rank | None


@dataclass(frozen=True)
class NewReview:
    """A reviewer's decision to be recorded.

    answer is what to learn instead, None to learn what was served. seen is the time of the decision
    that the reviewer saw, None if there was none.
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
    """Return the next answers to review, at most limit; no others stay in memory.

    Raises LockBusy and OSError.
    """
    if not directory.is_dir():
        return Listing((), 0, None)
    for _ in range(_FREE_READS):  # the lock would keep new answers from being written
        with suppress(ValidationError, FileNotFoundError):
            before = _files_of(directory)
            listing = _listed(directory, limit, after, which)
            if _files_of(directory)[: len(before)] == before:
                return listing
    with directory_lock(directory, "review", shared=True, wait_s=wait_s):
        return _listed(directory, limit, after, which)


def _listed(directory: Path, limit: int, after: Rank | None, which: Which) -> Listing:
    """Return the page; answers that turn out to be unreadable are left out."""
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
        return load_collected(outline)
    except ValidationError:
        return None


def _files_of(directory: Path) -> list[int]:
    """Return the inodes of the files; a deletion replaces a file and changes its inode."""
    reviews = directory / REVIEWS_FILE
    files = [*([reviews] if reviews.exists() else []), *day_files(directory)]
    return [path.stat().st_ino for path in files]


def find_for_review(directory: Path, answer_id: str) -> Collected:
    """Return one answer with its rating and review. Raises NotCollected."""
    found = find_collected(directory, answer_id)
    if found is not None:
        return found
    raise _not_kept(directory, answer_id)


def decide(directory: Path, opinion: NewReview, reviewer: str, *, wait_s: float = WAIT_S) -> Review:
    """Record a decision and return it once it is on disk.

    Raises NotCollected if the answer is not kept, DecidedMeanwhile if somebody else has decided
    since the reviewer looked, LockBusy and OSError.
    """
    if not directory.is_dir():
        raise _not_kept(directory, opinion.id)
    with directory_lock(directory, "review", shared=True, wait_s=wait_s):
        answer = _found(directory, opinion.id)
    edited = _edited(answer.answer, opinion)  # outside of the lock: it may take a second
    with directory_lock(directory, "review", wait_s=wait_s):
        # Looked up again: it may have been deleted in the meantime.
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
        append(directory / REVIEWS_FILE, line_of(review))
    return review


def _found(directory: Path, answer_id: str) -> CollectedAnswer:
    answer = find_answer(directory, answer_id)
    if answer is None:
        raise _not_kept(directory, answer_id)
    return answer


class _Counted:
    """An iterable of outlines that counts those of unreviewed answers."""

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


def _edited(served: str, opinion: NewReview) -> str | None:
    """Return the edited answer, redacted; None if it equals what was served."""
    if opinion.answer is None or opinion.decision == "reject":
        return None
    if not opinion.answer.strip():
        raise UsageError(
            "An empty answer cannot be learned.",
            where=opinion.id,
            next_step="Write what is to be learned, or reject the answer.",
        )
    if opinion.answer == served:
        return None
    names = names_in((), opinion.answer) | names_behind_placeholders(served, opinion.answer)
    return redacted(opinion.answer, names)


def _require_seen(review: Review | None, opinion: NewReview) -> None:
    if review is not None and review.time != opinion.seen:
        raise DecidedMeanwhile(
            "Somebody else has decided about this answer in the meantime.",
            where=opinion.id,
            found=f"{review.decision}, by {review.reviewer} at {review.time:%F %T} UTC",
            next_step="Look at it again, and decide again if you disagree.",
        )


def _not_kept(directory: Path, answer_id: str) -> NotCollected:
    return NotCollected(
        "No such answer is kept.",
        where=directory,
        found=answer_id,
        next_step="It was deleted, or its retention has ended; `kawan-usaha data review "
        "DEPLOYMENT --list` shows what is kept.",
    )
