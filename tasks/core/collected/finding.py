"""One answer among many, by its id: lines without the id are passed over unread."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from tasks.core.collected.lines import Place, raw_lines, record_at
from tasks.core.collected.place import REVIEWS, day_files
from tasks.core.collected.reading import Collected
from tasks.core.collected.records import CollectedAnswer, Rating, Review


def find(directory: Path, answer_id: str) -> Collected | None:
    """Return the answer with its latest rating and review, None where it is not kept."""
    answer: CollectedAnswer | None = None
    ratings: list[Rating] = []
    for path in day_files(directory):
        for _, record in _with_id(path, answer_id):
            if isinstance(record, CollectedAnswer):
                answer = record
            elif isinstance(record, Rating):
                ratings.append(record)
    if answer is None:
        return None
    # As in `reading`: the latest counts, and only of the same person.
    rating = ratings[-1] if ratings and ratings[-1].person == answer.person else None
    return Collected(answer, rating, latest_review(directory, answer))


def place_of(directory: Path, answer_id: str) -> Place | None:
    """Return where the answer stands, None where it is not kept. The newest day is read first."""
    for path in reversed(day_files(directory)):
        for place, record in _with_id(path, answer_id):
            if isinstance(record, CollectedAnswer):
                return place
    return None


def answer_at(place: Place, answer_id: str) -> CollectedAnswer | None:
    """Return the answer if it still stands there; a file may have been written anew."""
    try:
        found = record_at(place)
    except (ValidationError, FileNotFoundError):
        return None
    return found if isinstance(found, CollectedAnswer) and found.id == answer_id else None


def latest_review(directory: Path, answer: CollectedAnswer) -> Review | None:
    """Return what the team has decided of it last, None where nobody has."""
    last: Review | None = None
    for _, record in _with_id(directory / REVIEWS, answer.id):
        if isinstance(record, Review):
            last = record
    return last if last is not None and last.person == answer.person else None


def _with_id(
    path: Path, answer_id: str
) -> Iterator[tuple[Place, CollectedAnswer | Rating | Review]]:
    needle = f'"{answer_id}"'.encode()
    for place, line in raw_lines(path):
        if needle not in line or not line.endswith(b"\n"):
            continue
        try:
            record = record_at(place)
        except ValidationError:  # whoever reads all of them has been told of it
            continue
        if record.id == answer_id:
            yield place, record
