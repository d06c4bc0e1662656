"""What people have said of one answer: lines without its id are passed over unread."""

from collections.abc import Iterator
from pathlib import Path

from tasks.core.collected.finding import find_answer
from tasks.core.collected.lines import raw_lines
from tasks.core.collected.place import REVIEWS, day_files
from tasks.core.collected.reading import Collected
from tasks.core.collected.records import LINE, CollectedAnswer, Rating, Review


def find(directory: Path, answer_id: str) -> Collected | None:
    """Return the answer with its latest rating and review, None where it is not kept.

    As `reading` finds them, for all answers. Raises OSError.
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
    """Return what the team has decided of an answer last, None where nobody has."""
    found = [each for each in _with_id(directory / REVIEWS, answer.id) if isinstance(each, Review)]
    return found[-1] if found and found[-1].person == answer.person else None


def _with_id(path: Path, answer_id: str) -> Iterator[CollectedAnswer | Rating | Review]:
    needle = f'"{answer_id}"'.encode()
    for _, line in raw_lines(path):
        if needle not in line or not line.endswith(b"\n"):
            continue
        try:
            record = LINE.validate_json(line)
        except ValueError:  # whoever reads all of them is told of it
            continue
        if record.id == answer_id:
            yield record
