"""What a new model does better than the release, and what worse, topic by topic. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.core.evaluation.figures import EvaluationOutcome, compared_roles

Change = Literal["better", "the same", "worse"]
SAME_WITHIN = 0.02
"""Share by which a perplexity may move and still be told as the same: less is hardly to be read."""


@dataclass(frozen=True)
class TopicChange:
    """The conversations of one topic: the perplexity of the release, of the new model, and both."""

    topic: str
    conversations: int
    before: float
    after: float
    ratio: float

    @property
    def change(self) -> Change:
        """Return it in a word. A ratio that is no number is worse: nothing shows otherwise."""
        if self.ratio < 1 - SAME_WITHIN:
            return "better"
        return "the same" if self.ratio <= 1 + SAME_WITHIN else "worse"


def changes(outcome: EvaluationOutcome, topics: Mapping[int, str]) -> tuple[TopicChange, ...]:
    """Return the change of each topic, the largest loss first; none without a release before.

    topics has the topic of each record of the measured file, by its position.
    """
    roles = compared_roles(outcome)
    before, after = (outcome.of(role) for role in roles) if roles else (None, None)
    if before is None or after is None:
        return ()
    records = defaultdict[str, set[int]](set)
    for read in after.reads:
        records[topics.get(read.position, "")].add(read.position)
    found = list[TopicChange]()
    for topic, positions in records.items():
        one, other = before.of_records(positions), after.of_records(positions)
        if one is not None and other is not None and one.tokens and other.tokens:
            ratio = other.perplexity_ratio_to(one)
            found.append(
                TopicChange(topic, other.conversations, one.perplexity, other.perplexity, ratio)
            )
    return tuple(sorted(found, key=lambda each: (-each.ratio, each.topic)))


def in_words(found: Sequence[TopicChange]) -> str:
    """Return one line: which topics are better, which are worse."""
    if not found:
        return "No topic can be compared."
    named = {
        change: [e.topic for e in found if e.change == change] for change in ("better", "worse")
    }
    told = [f"{change}: {', '.join(topics)}" for change, topics in named.items() if topics]
    return "; ".join(told).capitalize() + "." if told else "No topic changed by more than 2 %."
