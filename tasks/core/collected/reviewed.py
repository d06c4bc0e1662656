"""What is learned of collected answers: those that somebody has read and accepted, and no others.

Accepting an answer accepts its conversation as the reviewer saw it: each answer in it is learned.
Where an earlier one was decided about by itself, that decision holds here too. The invariants:
what is unreviewed or rejected is nowhere in the set; the bytes depend on what was decided and on
nothing else; and no answer stands on both sides, learned and held out (`held_apart.py`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tasks.core.collected.held_apart import Said, answers_in, is_held_out, said_in
from tasks.core.collected.reading import Collected, read_collected
from tasks.core.collected.records import Decision, Message, Review, Verdict
from tasks.core.conversation.records import BadRecord, Conversation, Turn, parse_record

HELD_OUT_SHARE = 0.2

CONVERSATIONS = "conversations.jsonl"
HELD_OUT = "held_out.jsonl"
PREFERENCES = "preferences.jsonl"
REVIEWS = "reviews.json"

_SPEAKERS: Mapping[str, Literal["human", "gpt"]] = {"user": "human", "assistant": "gpt"}


@dataclass(frozen=True)
class Preference:
    """A better and a worse answer to one conversation, which ends with the question."""

    id: str
    system: str | None
    turns: tuple[Turn, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Decided:
    """Who decided what, when, and what the person thought who had asked. No text."""

    reviewer: str
    time: str
    decision: Decision
    rating: Verdict | None


@dataclass(frozen=True)
class LeftOut:
    """An accepted answer that cannot be learned."""

    id: str
    reason: str


@dataclass(frozen=True)
class ReviewedSet:
    """All that was reviewed, as it is learned."""

    conversations: tuple[Conversation, ...]
    held_out: tuple[Conversation, ...]
    preferences: tuple[Preference, ...]
    reviews: Mapping[str, Decided]
    left_out: tuple[LeftOut, ...]

    def files(self) -> dict[str, bytes]:
        """Return the files of the artifact by name: the same bytes for the same decisions."""
        reviews = {name: vars(decided) for name, decided in sorted(self.reviews.items())}
        return {
            CONVERSATIONS: _lines(map(_record, self.conversations)),
            HELD_OUT: _lines(map(_record, self.held_out)),
            PREFERENCES: _lines(map(_preference, self.preferences)),
            REVIEWS: (json.dumps(reviews, indent=1, ensure_ascii=False) + "\n").encode(),
        }


def reviewed_set(directory: Path) -> ReviewedSet:
    """Return what of a deployment's collected answers may be learned.

    The caller holds the lock (`place.held`), shared. Only what was reviewed stays in memory. Raises
    OSError.
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


def _decided(found: Collected, review: Review) -> Decided:
    return Decided(review.reviewer, review.time.isoformat(), review.decision, _verdict(found))


def _learned(found: Collected) -> str:
    """Return the answer that is learned: the reviewer's, or the one that was served."""
    edited = None if found.review is None else found.review.answer
    return found.answer.answer if edited is None else edited


def _rulings(decided: Iterable[tuple[Collected, Review]]) -> dict[Said, str | None]:
    """Return what stands for an answer in later conversations; None for a rejected one.

    Of several decisions about the same words a rejection counts, then the first edit.
    """
    rulings: dict[Said, str | None] = {}
    for found, review in decided:
        served = found.answer.answer
        said = (found.answer.messages[-1].content, served)
        if review.decision == "reject":
            rulings[said] = None
        elif rulings.get(said, served) == served:
            rulings[said] = _learned(found)
    return rulings


def _conversation(
    found: Collected, answer: str, rulings: Mapping[Said, str | None]
) -> Conversation | LeftOut:
    """Return the conversation with this answer, or why there is none to learn from."""
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


def _system(messages: Sequence[Message]) -> str | None:
    """Return the system message; several are joined as the gateway joins them for the model."""
    found = [each.content for each in messages if each.role == "system"]
    return "\n".join(found) if found else None


def _without_beginnings(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Return the conversations without those with which another one begins, or that it repeats."""
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


def _corrections(accepted: Iterable[tuple[Collected, Conversation]]) -> list[Preference]:
    """Return each answer that the reviewer has bettered, against the one that was served."""
    return [
        Preference(found.answer.id, made.system, made.turns[:-1], chosen, found.answer.answer)
        for found, made in accepted
        if (chosen := made.turns[-1].text) != found.answer.answer
    ]


def _thumbs(accepted: Sequence[tuple[Collected, Conversation]]) -> list[Preference]:
    """Return each answer that was disliked and bettered, against a liked one to the same.

    The oldest liked one stands against all of them.
    """
    liked = dict[tuple[Message, ...], tuple[str, Conversation]]()
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
                Preference(name, good.system, good.turns[:-1], good.turns[-1].text, served)
            )
    return pairs


def _verdict(found: Collected) -> Verdict | None:
    return None if found.rating is None else found.rating.verdict


def _record(conversation: Conversation) -> dict[str, object]:
    turns = _turns(conversation.system, conversation.turns)
    return {"id": conversation.id, "conversations": turns}


def _preference(pair: Preference) -> dict[str, object]:
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
