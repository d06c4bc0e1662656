"""Collected answers as a deployment keeps them, made on the spot."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from tasks.core.collected.person import salt_of
from tasks.core.collected.place import REVIEWS, day_file
from tasks.core.collected.records import CollectedAnswer, Message, Rating, Review, line_of
from tasks.core.collected.writing import append

MONDAY = datetime(2026, 11, 30, 12, tzinfo=UTC)
SITI, BUDI = "5" * 32, "b" * 32

Verdict = Literal["up", "down"]


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
        rated: Verdict | None = None,
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
        review = Review(
            id=name,
            person=person,
            time=MONDAY,
            reviewer="rina",
            decision=decision,
            answer=answer,
        )
        append(self.directory / REVIEWS, line_of(review))

    def _add(self, record: CollectedAnswer | Rating) -> None:
        append(day_file(self.directory, record.time.date()), line_of(record))


def messages(said: Sequence[str]) -> list[Message]:
    """Return the turns of user and assistant; a text that begins with `system:` is one's."""
    found: list[Message] = []
    spoken = 0
    for text in said:
        if text.startswith("system:"):
            found.append(Message(role="system", content=text.removeprefix("system:")))
        else:
            found.append(Message(role="assistant" if spoken % 2 else "user", content=text))
            spoken += 1
    return found
