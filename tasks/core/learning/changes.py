"""What a new model does better or worse than the release, topic by topic. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.core.evaluation.figures import EvaluationOutcome, compared_roles

ChangeWord = Literal["better", "the same", "worse"]
SAME_WITHIN = 0.02
"""The relative change in perplexity up to which it counts as the same."""


@dataclass(frozen=True)
class TopicChange:
    """The perplexity of the release and of the new model on one topic, and their ratio."""

    topic: str
    conversations: int
    before: float
    after: float
    ratio: float

    @property
    def change(self) -> ChangeWord:
        """The change in a word. A ratio that is NaN counts as worse."""
        if self.ratio < 1 - SAME_WITHIN:
            return "better"
        return "the same" if self.ratio <= 1 + SAME_WITHIN else "worse"


def changes(outcome: EvaluationOutcome, topics: Mapping[int, str]) -> tuple[TopicChange, ...]:
    """Return the change on each topic, the worst first; nothing if there is no earlier release.

    topics has the topic of each record of the measured file, by position.
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
    """Return one line with the topics that are better and those that are worse."""
    if not found:
        return "No topic can be compared."
    named = {
        change: [e.topic for e in found if e.change == change] for change in ("better", "worse")
    }
    told = [f"{change}: {', '.join(topics)}" for change, topics in named.items() if topics]
    return "; ".join(told).capitalize() + "." if told else "No topic changed by more than 2 %."
