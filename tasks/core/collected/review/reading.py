"""All collected answers, each with its latest rating and review.

Answers are read one at a time; of ratings and reviews only the places are kept in memory. The
invariant: a rating or review counts only for an answer of the same person.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tasks.core.collected.storage.directory import REVIEWS_FILE, day_files
from tasks.core.collected.storage.lines import (
    LineSpan,
    OnBad,
    ignore_bad_line,
    log_bad_line,
    record_at,
    records_in,
)
from tasks.core.collected.storage.records import CollectedAnswer, Rating, Review

_Opinion = TypeVar("_Opinion", Rating, Review)


@dataclass(frozen=True)
class Collected:
    """One answer, with its rating and its review."""

    answer: CollectedAnswer
    rating: Rating | None
    review: Review | None


def read_collected(directory: Path, on_bad: OnBad = log_bad_line) -> Iterator[Collected]:
    """Yield everything that is kept, the oldest answer first.

    on_bad is called with each unreadable line. The caller holds the lock, shared, if it needs a
    consistent snapshot. Raises OSError.
    """
    ratings: dict[str, LineSpan] = {}
    reviews: dict[str, LineSpan] = {}
    days = day_files(directory)
    for path in days:
        for place, record in records_in(path, on_bad):
            if isinstance(record, Rating):
                ratings[record.id] = place
    for place, record in records_in(directory / REVIEWS_FILE, on_bad):
        if isinstance(record, Review):
            reviews[record.id] = place
    for path in days:
        for _, record in records_in(path, ignore_bad_line):
            if isinstance(record, CollectedAnswer):
                yield Collected(
                    record,
                    _latest(ratings.get(record.id), record, Rating),
                    _latest(reviews.get(record.id), record, Review),
                )


def _latest(
    place: LineSpan | None, answer: CollectedAnswer, kind: type[_Opinion]
) -> _Opinion | None:
    if place is None:
        return None
    found = record_at(place)
    return found if isinstance(found, kind) and found.person == answer.person else None
