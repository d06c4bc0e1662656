"""The rating and the review of one answer; lines without its id are skipped unparsed."""

from collections.abc import Iterator
from pathlib import Path

from tasks.core.collected.review.reading import Collected
from tasks.core.collected.storage.directory import REVIEWS_FILE, day_files
from tasks.core.collected.storage.lines import raw_lines
from tasks.core.collected.storage.records import LINE, CollectedAnswer, Rating, Review
from tasks.core.collected.storage.search import find_answer


def find_collected(directory: Path, answer_id: str) -> Collected | None:
    """Return the answer with its latest rating and review, None if it is not kept.

    The same as `reading` finds when it reads all answers. Raises OSError.
    """
    answer = find_answer(directory, answer_id)
    if answer is None:
        return None
    ratings = [
        record
        for path in day_files(directory)
        for record in _with_id(path, answer_id)
        if isinstance(record, Rating)
    ]
    rating = ratings[-1] if ratings and ratings[-1].person == answer.person else None
    return Collected(answer, rating, latest_review(directory, answer))


def latest_review(directory: Path, answer: CollectedAnswer) -> Review | None:
    """Return the latest review of an answer, None if there is none."""
    found = [
        each for each in _with_id(directory / REVIEWS_FILE, answer.id) if isinstance(each, Review)
    ]
    return found[-1] if found and found[-1].person == answer.person else None


def _with_id(path: Path, answer_id: str) -> Iterator[CollectedAnswer | Rating | Review]:
    needle = f'"{answer_id}"'.encode()
    for _, line in raw_lines(path):
        if needle not in line or not line.endswith(b"\n"):
            continue
        try:
            record = LINE.validate_json(line)
        except ValueError:  # reported when all lines are read
            continue
        if record.id == answer_id:
            yield record
