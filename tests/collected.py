"""Collected answers, ratings and reviews for tests: single records, and whole directories."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from tasks.core.collected.privacy.person import salt_of
from tasks.core.collected.storage.directory import REVIEWS_FILE, day_file
from tasks.core.collected.storage.records import (
    CollectedAnswer,
    CollectedMessage,
    Rating,
    RatingVerdict,
    Review,
    line_of,
)
from tasks.core.collected.storage.writing import append

MONDAY = datetime(2026, 11, 30, 12, tzinfo=UTC)
SITI, BUDI = "5" * 32, "b" * 32


def an_answer(
    name: str = "chatcmpl-1", *, person: str = SITI, answer: str = "Ya."
) -> CollectedAnswer:
    return CollectedAnswer(
        id=name,
        person=person,
        time=MONDAY,
        model="kawan",
        build=None,
        messages=(CollectedMessage(role="user", content="Bisa?"),),
        answer=answer,
    )


def a_rating(name: str = "chatcmpl-1", *, person: str = SITI, verdict: str = "up") -> Rating:
    return Rating.model_validate(
        {"id": name, "person": person, "time": MONDAY, "verdict": verdict, "correction": None}
    )


def a_review(
    name: str = "chatcmpl-1",
    decision: str = "accept",
    *,
    person: str = SITI,
    reviewer: str = "tim",
    answer: str | None = None,
) -> Review:
    return Review.model_validate(
        {
            "id": name,
            "person": person,
            "time": MONDAY,
            "reviewer": reviewer,
            "decision": decision,
            "answer": answer,
        }
    )


def write(path: Path, *records: CollectedAnswer | Rating | Review) -> None:
    path.write_bytes(b"".join(map(line_of, records)))


class Kept:
    """The collected answers of one deployment. Each answer is a minute younger than the last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        salt_of(directory)
        self.minutes = 0

    def answer(
        self,
        name: str,
        *said: str,
        person: str = SITI,
        rated: RatingVerdict | None = None,
        correction: str | None = None,
    ) -> str:
        """Keep a conversation whose last words are the answer, and return the answer's id."""
        *before, answer = said
        self.minutes += 1
        time = MONDAY + timedelta(minutes=self.minutes)
        self._add(
            CollectedAnswer(
                id=name,
                person=person,
                time=time,
                model="kawan",
                build="b1",
                messages=tuple(messages(before)),
                answer=answer,
            )
        )
        if rated is not None or correction is not None:
            self._add(
                Rating(id=name, person=person, time=time, verdict=rated, correction=correction)
            )
        return name

    def review(
        self,
        name: str,
        decision: Literal["accept", "reject"] = "accept",
        answer: str | None = None,
        *,
        person: str = SITI,
    ) -> None:
        made = a_review(name, decision, person=person, reviewer="rina", answer=answer)
        append(self.directory / REVIEWS_FILE, line_of(made))

    def _add(self, record: CollectedAnswer | Rating) -> None:
        append(day_file(self.directory, record.time.date()), line_of(record))


def messages(said: Sequence[str]) -> list[CollectedMessage]:
    """Return the turns of user and assistant; a text that begins with `system:` is one's."""
    found: list[CollectedMessage] = []
    spoken = 0
    for text in said:
        if text.startswith("system:"):
            found.append(CollectedMessage(role="system", content=text.removeprefix("system:")))
        else:
            found.append(CollectedMessage(role="assistant" if spoken % 2 else "user", content=text))
            spoken += 1
    return found
