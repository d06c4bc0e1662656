"""The reviewed set: the collected answers that somebody has read and accepted, as training data.

Accepting an answer accepts its conversation as the reviewer saw it: every answer in it is learned.
A separate decision about an earlier answer also holds in later conversations. The invariants:
nothing unreviewed or rejected is in the set; its bytes depend on the decisions alone; and no answer
is both trained on and held out (`held_out`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tasks.core.collected.review.held_out import QuestionAnswer, answers_in, is_held_out, said_in
from tasks.core.collected.review.reading import Collected, read_collected
from tasks.core.collected.storage.records import CollectedMessage, Decision, RatingVerdict, Review
from tasks.core.conversation.reading.data_sources import (
    REVIEWED_CONVERSATIONS,
    REVIEWED_PREFERENCES,
)
from tasks.core.conversation.records import BadRecord, Conversation, Turn, parse_record

HELD_OUT_SHARE = 0.2

HELD_OUT = "held_out.jsonl"
DECISIONS_FILE = "reviews.json"

_SPEAKERS: Mapping[str, Literal["human", "gpt"]] = {"user": "human", "assistant": "gpt"}


@dataclass(frozen=True)
class AnswerPair:
    """A better and a worse answer to one conversation, which ends with the question."""

    id: str
    system: str | None
    turns: tuple[Turn, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class ReviewDecision:
    """A decision about an answer, with its rating and without its text."""

    reviewer: str
    time: str
    decision: Decision
    rating: RatingVerdict | None


@dataclass(frozen=True)
class LeftOut:
    """An accepted answer that cannot be trained on."""

    id: str
    reason: str


@dataclass(frozen=True)
class ReviewedSet:
    """Everything that was reviewed, as training data."""

    conversations: tuple[Conversation, ...]
    held_out: tuple[Conversation, ...]
    preferences: tuple[AnswerPair, ...]
    reviews: Mapping[str, ReviewDecision]
    left_out: tuple[LeftOut, ...]

    def files(self) -> dict[str, bytes]:
        """Return the files of the artifact by name: equal decisions give equal bytes."""
        reviews = {name: vars(decided) for name, decided in sorted(self.reviews.items())}
        return {
            REVIEWED_CONVERSATIONS: _lines(map(_record, self.conversations)),
            HELD_OUT: _lines(map(_record, self.held_out)),
            REVIEWED_PREFERENCES: _lines(map(_preference, self.preferences)),
            DECISIONS_FILE: (json.dumps(reviews, indent=1, ensure_ascii=False) + "\n").encode(),
        }


def reviewed_set(directory: Path) -> ReviewedSet:
    """Return the reviewed set of a deployment.

    The caller holds the lock, shared. Only reviewed answers stay in memory. Raises OSError.
    """
    decided = [
        (found, found.review) for found in read_collected(directory) if found.review is not None
    ]
    decided.sort(key=lambda each: (each[0].answer.time, each[0].answer.id))
    rulings = _rulings(decided)
    accepted, left_out = list[tuple[Collected, Conversation]](), list[LeftOut]()
    for found, review in decided:
        if review.decision == "accept":
            made = _conversation(found, _learned(found), rulings)
            if isinstance(made, LeftOut):
                left_out.append(made)
            else:
                accepted.append((found, made))
    kept = _without_beginnings([conversation for _, conversation in accepted])
    held_out = tuple(each for each in kept if is_held_out(each.turns, HELD_OUT_SHARE))
    measured = answers_in(held_out)
    conversations = list[Conversation]()
    for each in kept:
        if is_held_out(each.turns, HELD_OUT_SHARE):
            continue
        if measured.isdisjoint(said_in(each.turns)):
            conversations.append(each)
        else:
            left_out.append(LeftOut(each.id, "an answer of it stands among those held out"))
    return ReviewedSet(
        conversations=tuple(conversations),
        held_out=held_out,
        preferences=tuple(
            pair
            for pair in (*_corrections(accepted), *_thumbs(accepted))
            if not is_held_out(pair.turns, HELD_OUT_SHARE)
            and measured.isdisjoint(said_in(pair.turns, pair.chosen, pair.rejected))
        ),
        reviews={found.answer.id: _decided(found, review) for found, review in decided},
        left_out=tuple(left_out),
    )


def _decided(found: Collected, review: Review) -> ReviewDecision:
    return ReviewDecision(
        review.reviewer, review.time.isoformat(), review.decision, _verdict(found)
    )


def _learned(found: Collected) -> str:
    """Return the answer to learn: the reviewer's, or the one that was served."""
    edited = None if found.review is None else found.review.answer
    return found.answer.answer if edited is None else edited


def _rulings(decided: Iterable[tuple[Collected, Review]]) -> dict[QuestionAnswer, str | None]:
    """Return what replaces an answer in later conversations; None if it was rejected.

    Of several decisions about the same answer a rejection wins, then the first edit.
    """
    rulings: dict[QuestionAnswer, str | None] = {}
    for found, review in decided:
        served = found.answer.answer
        said = (found.answer.messages[-1].content, served)
        if review.decision == "reject":
            rulings[said] = None
        elif rulings.get(said, served) == served:
            rulings[said] = _learned(found)
    return rulings


def _conversation(
    found: Collected, answer: str, rulings: Mapping[QuestionAnswer, str | None]
) -> Conversation | LeftOut:
    """Return the conversation with this answer, or why it cannot be trained on."""
    answer_id, messages = found.answer.id, found.answer.messages
    said = [each for each in messages if each.role != "system"]
    turns = [{"from": _SPEAKERS[each.role], "value": each.content} for each in said]
    for place, (question, earlier) in enumerate(pairwise(said), start=1):
        if earlier.role == "assistant":
            ruled = rulings.get((question.content, earlier.content), earlier.content)
            if ruled is None:
                return LeftOut(answer_id, "an earlier answer of the conversation was rejected")
            turns[place]["value"] = ruled
    turns.append({"from": "gpt", "value": answer})
    system = _system(messages)
    if system is not None:
        turns.insert(0, {"from": "system", "value": system})
    made = parse_record({"id": answer_id, "conversations": turns}, 1)
    return LeftOut(answer_id, made.reason) if isinstance(made, BadRecord) else made


def _system(messages: Sequence[CollectedMessage]) -> str | None:
    """Return the system message; several are joined as the gateway does for the model."""
    found = [each.content for each in messages if each.role == "system"]
    return "\n".join(found) if found else None


def _without_beginnings(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Return the conversations without duplicates and without beginnings of longer ones."""
    longer = {
        (each.system, each.turns[:length])
        for each in conversations
        for length in range(2, len(each.turns), 2)
    }
    kept: dict[tuple[str | None, tuple[Turn, ...]], Conversation] = {}
    for each in conversations:
        if (each.system, each.turns) not in longer:
            kept.setdefault((each.system, each.turns), each)
    return list(kept.values())


def _corrections(accepted: Iterable[tuple[Collected, Conversation]]) -> list[AnswerPair]:
    """Pair each answer that the reviewer edited with the one that was served."""
    return [
        AnswerPair(found.answer.id, made.system, made.turns[:-1], chosen, found.answer.answer)
        for found, made in accepted
        if (chosen := made.turns[-1].text) != found.answer.answer
    ]


def _thumbs(accepted: Sequence[tuple[Collected, Conversation]]) -> list[AnswerPair]:
    """Pair each answer that was disliked and edited with a liked answer to the same conversation.

    The oldest liked answer is the better one of every pair.
    """
    liked = dict[tuple[CollectedMessage, ...], tuple[str, Conversation]]()
    for found, made in accepted:
        if _verdict(found) == "up":
            liked.setdefault(found.answer.messages, (found.answer.id, made))
    pairs = []
    for found, made in accepted:
        served, better = found.answer.answer, liked.get(found.answer.messages)
        if better is None or _verdict(found) != "down" or made.turns[-1].text == served:
            continue
        name, good = better
        if served != good.turns[-1].text:
            name = f"{name}+{found.answer.id}"
            pairs.append(
                AnswerPair(name, good.system, good.turns[:-1], good.turns[-1].text, served)
            )
    return pairs


def _verdict(found: Collected) -> RatingVerdict | None:
    return None if found.rating is None else found.rating.verdict


def _record(conversation: Conversation) -> dict[str, object]:
    turns = _turns(conversation.system, conversation.turns)
    return {"id": conversation.id, "conversations": turns}


def _preference(pair: AnswerPair) -> dict[str, object]:
    return {
        "id": pair.id,
        "conversations": _turns(pair.system, pair.turns),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }


def _turns(system: str | None, turns: Iterable[Turn]) -> list[dict[str, str]]:
    first = [] if system is None else [{"from": "system", "value": system}]
    return [*first, *({"from": turn.speaker, "value": turn.text} for turn in turns)]


def _lines(records: Iterable[Mapping[str, object]]) -> bytes:
    return "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in records).encode()
