"""Judge pairs of answers, each in both orders, within the cost limit.

The invariant: no question is paid for twice, and none is asked that could exceed the limit.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks.core.evaluation.judge_endpoint import Reply
from tasks.core.evaluation.judge_journal import JournalEntry, JudgeJournal
from tasks.core.evaluation.judge_question import RULES, JudgeQuestion, question_about, verdict_in
from tasks.core.evaluation.judgement import JudgedPair, Winner, of_both_orders
from tasks.core.recipe.judge import Judge

SAME = "Both answers are the same."
_FORM_TOKENS = 64
"""More than any chat template adds to two messages."""


@dataclass(frozen=True)
class AnswerPair:
    """One prompt and the answers of two models."""

    id: str
    prompt: str
    before: str
    after: str


class Asks(Protocol):
    """An endpoint that answers questions."""

    def ask(self, text: str, lost: Callable[[], bool]) -> Reply:
        """Return the reply to one question; `lost` as in `Endpoint.ask`."""


class PairJudge:
    """Asks the judge and counts tokens and cost, including those of verdicts in the journal.

    A reply without a token count, and an attempt that was sent but got no reply, count with the
    maximum that they can have taken.
    """

    def __init__(
        self, judge: Judge, endpoint: Asks, journal: JudgeJournal, say: Callable[[str], None]
    ) -> None:
        self.input_tokens = self.output_tokens = self.uncounted = 0
        self._judge, self._endpoint, self._journal, self._say = judge, endpoint, journal, say
        self._counted = set[str]()

    @property
    def cost(self) -> float:
        """The cost so far, in the currency of the prices."""
        return self._price(self.input_tokens, self.output_tokens)

    def verdicts(self, pairs: Sequence[AnswerPair], what: str) -> list[JudgedPair]:
        """Return the judge's verdict on each pair, stopping before one could exceed the cost limit.

        Two identical answers are a tie, and the judge is not asked.
        """
        found: list[JudgedPair] = []
        for number, pair in enumerate(pairs, start=1):
            if pair.before == pair.after:
                found.append(JudgedPair(prompt_id=pair.id, winner="tie", reasons=(SAME,)))
                continue
            one = question_about(pair.prompt, pair.before, pair.after, seed=self._judge.seed)
            other = question_about(pair.prompt, pair.after, pair.before, seed=self._judge.seed)
            results = self._entries(one, other)
            if results is None:
                self._say(f"judge: stopped by the cost limit after {number - 1} {what}s")
                break
            found.append(_verdict(pair, *results))
            self._say(f"judge: {what} {number} of {len(pairs)}")
        return found

    def _entries(
        self, one: JudgeQuestion, other: JudgeQuestion
    ) -> tuple[JournalEntry, JournalEntry] | None:
        """Return the results of both orders, None where they could exceed the limit."""
        if not self._affords(one, other):
            return None
        first = self._entry(one)
        # Lost attempts at the first may have used up what was reserved for the other.
        return (first, self._entry(other)) if self._affords(other) else None

    def _affords(self, *questions: JudgeQuestion) -> bool:
        limit, total = self._judge.max_cost, self.cost
        if limit is None:
            return True
        for asked in questions:
            entry = self._journal.find(self._digest(asked))
            known = None if entry is None else (entry.input_tokens, entry.output_tokens)
            total += self._price(*(known or self._most_tokens(asked)))
            if self._digest(asked) not in self._counted:
                total += sum(
                    self._price(lost.input_tokens, lost.output_tokens) for lost in self._lost(asked)
                )
        return total <= limit

    def _entry(self, asked: JudgeQuestion) -> JournalEntry:
        """Return the result of a question, from the journal or by asking."""
        if self._digest(asked) not in self._counted:
            self._counted.add(self._digest(asked))
            for lost in self._lost(asked):
                self._count(lost)
        entry = self._journal.find(self._digest(asked))
        if entry is None:
            reply = self._endpoint.ask(asked.text, lambda: self._add_lost(asked))
            entry = self._paid(asked, reply)
            self._journal.add(entry)
        self._count(entry)
        return entry

    def _count(self, entry: JournalEntry) -> None:
        self.input_tokens += entry.input_tokens
        self.output_tokens += entry.output_tokens
        self.uncounted += not entry.counted

    def _lost(self, asked: JudgeQuestion) -> list[JournalEntry]:
        """Return the attempts at a question that got no reply but may have to be paid."""
        digest, found = self._digest(asked), list[JournalEntry]()
        while (entry := self._journal.find(f"{digest}-lost-{len(found)}")) is not None:
            found.append(entry)
        return found

    def _add_lost(self, asked: JudgeQuestion) -> bool:
        """Record and count an attempt without a reply; return whether another is affordable."""
        name = f"{self._digest(asked)}-lost-{len(self._lost(asked))}"
        tokens = dict(zip(("input_tokens", "output_tokens"), self._most_tokens(asked), strict=True))
        entry = JournalEntry(question=name, verdict=None, reason="", counted=False, **tokens)
        self._journal.add(entry)
        self._count(entry)
        return self._affords(asked)

    def _paid(self, asked: JudgeQuestion, reply: Reply) -> JournalEntry:
        verdict, reason = verdict_in(reply.text, asked)
        counted = reply.input_tokens is not None and reply.output_tokens is not None
        most = self._most_tokens(asked)
        return JournalEntry(
            question=self._digest(asked),
            verdict=verdict,
            reason=reason,
            input_tokens=most[0] if reply.input_tokens is None else reply.input_tokens,
            output_tokens=most[1] if reply.output_tokens is None else reply.output_tokens,
            counted=counted,
        )

    def _most_tokens(self, asked: JudgeQuestion) -> tuple[int, int]:
        """Return the maximum tokens of a question and its reply: a token has at least one byte."""
        sent = f"{RULES}{asked.text}".encode(errors="replace")
        return len(sent) + _FORM_TOKENS, self._judge.max_reply_tokens

    def _price(self, input_tokens: int, output_tokens: int) -> float:
        judge = self._judge
        return (input_tokens * judge.input_price + output_tokens * judge.output_price) / 1e6

    def _digest(self, asked: JudgeQuestion) -> str:
        whole = [
            self._judge.url,
            self._judge.model,
            self._judge.max_reply_tokens,
            RULES,
            asked.text,
        ]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def _verdict(pair: AnswerPair, one: JournalEntry, other: JournalEntry) -> JudgedPair:
    """Combine the verdicts of both orders: `before` was the first answer, then the second."""
    names: tuple[dict[str, Winner], ...] = (
        {"first": "before", "second": "after", "tie": "tie"},
        {"first": "after", "second": "before", "tie": "tie"},
    )
    results = [
        None if e.verdict is None else n[e.verdict]
        for e, n in zip((one, other), names, strict=True)
    ]
    winner, turned = of_both_orders(results[0], results[1])
    reasons = tuple(entry.reason for entry in (one, other) if entry.reason)
    return JudgedPair(prompt_id=pair.id, winner=winner, turned=turned, reasons=reasons)
