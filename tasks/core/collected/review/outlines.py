"""Outlines of answers without their texts, for lists that show only some of them.

Only the head of an answer's line is parsed, so that listing a gigabyte takes the time to read the
disk and little of the processor. Ratings and reviews are joined as in `reading`: the latest of an
id counts, if it is by the same person as the answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tasks.core.collected.review.reading import Collected
from tasks.core.collected.storage.directory import REVIEWS_FILE, day_files
from tasks.core.collected.storage.lines import LineSpan, head_of, raw_lines, record_at
from tasks.core.collected.storage.records import LINE, CollectedAnswer, Rating, Review


@dataclass(frozen=True)
class _Said:
    """A rating or a review."""

    person: str
    place: LineSpan
    goodness: int


@dataclass(frozen=True)
class Outline:
    """An answer as a list needs it; goodness as in `goodness_of`."""

    id: str
    time: datetime
    goodness: int
    is_reviewed: bool
    places: tuple[LineSpan, LineSpan | None, LineSpan | None]
    """The places of the answer, its rating and its review."""


def goodness_of(rating: Rating | None) -> int:
    """Return 0 for a disliked or corrected answer, 2 for a liked one, else 1."""
    if rating is None:
        return 1
    if rating.verdict == "down" or rating.correction is not None:
        return 0
    return 2 if rating.verdict == "up" else 1


def outlines(directory: Path) -> Iterator[Outline]:
    """Yield the outline of each kept answer, the oldest first. Raises OSError."""
    days = day_files(directory)
    ratings = _said(days, "rating")
    reviews = _said([directory / REVIEWS_FILE], "review")
    for path in days:
        for place, line in raw_lines(path):
            head = head_of(line)
            if head is None or head.kind != "answer":
                continue
            rating = _of(head.person, ratings.get(head.id))
            review = _of(head.person, reviews.get(head.id))
            yield Outline(
                id=head.id,
                time=head.time,
                goodness=goodness_of(None) if rating is None else rating.goodness,
                is_reviewed=review is not None,
                places=(
                    place,
                    None if rating is None else rating.place,
                    None if review is None else review.place,
                ),
            )


def load_collected(outline: Outline) -> Collected:
    """Return the answer with its rating and review. Raises ValidationError for a bad line."""
    answer, rating, review = (each and record_at(each) for each in outline.places)
    return Collected(
        CollectedAnswer.model_validate(answer),
        None if rating is None else Rating.model_validate(rating),
        None if review is None else Review.model_validate(review),
    )


def _said(paths: list[Path], kind: str) -> dict[str, _Said]:
    found: dict[str, _Said] = {}
    for path in paths:
        for place, line in raw_lines(path):
            head = head_of(line)
            if head is None or head.kind != kind:
                continue
            try:
                record = LINE.validate_json(line)
            except ValueError:
                continue
            goodness = goodness_of(record) if isinstance(record, Rating) else 1
            found[head.id] = _Said(head.person, place, goodness)
    return found


def _of(person: str, said: _Said | None) -> _Said | None:
    return said if said is not None and said.person == person else None
