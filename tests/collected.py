"""Collected answers, ratings and reviews for tests."""

from datetime import UTC, datetime
from pathlib import Path

from tasks.core.collected.records import CollectedAnswer, Message, Rating, Review, line_of

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
        messages=(Message(role="user", content="Bisa?"),),
        answer=answer,
    )


def a_rating(name: str = "chatcmpl-1", *, person: str = SITI, verdict: str = "up") -> Rating:
    return Rating.model_validate(
        {"id": name, "person": person, "time": MONDAY, "verdict": verdict, "correction": None}
    )


def a_review(name: str = "chatcmpl-1", decision: str = "accept", *, person: str = SITI) -> Review:
    return Review.model_validate(
        {
            "id": name,
            "person": person,
            "time": MONDAY,
            "reviewer": "tim",
            "decision": decision,
            "answer": None,
        }
    )


def write(path: Path, *records: CollectedAnswer | Rating | Review) -> None:
    path.write_bytes(b"".join(map(line_of, records)))
