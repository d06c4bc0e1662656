"""Collected answers, each with its latest rating and its latest review.

Answers are read one after another; of ratings and reviews only their places are remembered. The
invariant: a rating or review counts only for an answer of the same person.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tasks.core.collected.lines import LineSpan, OnBad, record_at, records_in, untold, warn
from tasks.core.collected.place import REVIEWS, day_files
from tasks.core.collected.records import CollectedAnswer, Rating, Review

_Opinion = TypeVar("_Opinion", Rating, Review)


@dataclass(frozen=True)
class Collected:
    """One answer, and what people thought of it."""

    answer: CollectedAnswer
    rating: Rating | None
    review: Review | None


def read_collected(directory: Path, on_bad: OnBad = warn) -> Iterator[Collected]:
    """Yield everything that is kept, the oldest answer first; nothing where nothing is.

    on_bad is told of each line that is no record. The caller holds the lock (`place.held`), shared,
    where what it reads must be of one moment. Raises OSError.
    """
    ratings: dict[str, LineSpan] = {}
    reviews: dict[str, LineSpan] = {}
    days = day_files(directory)
    for path in days:
        for place, record in records_in(path, on_bad):
            if isinstance(record, Rating):
                ratings[record.id] = place
    for place, record in records_in(directory / REVIEWS, on_bad):
        if isinstance(record, Review):
            reviews[record.id] = place
    for path in days:
        for _, record in records_in(path, untold):
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
