"""Tokens and labels of both sides of a preference pair.

The invariant: both sides hold the same conversation whole, and only the tokens of the final answer
have a label; a pair of which one side does not fit is empty on both sides.
"""

from collections.abc import Sequence
from dataclasses import replace

from tasks.core.conversation.examples.labels import Encoder, Example, last_answer
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.records import Conversation
from tasks.core.conversation.template.render import MarkInText

Examples = tuple[Example, ...]
"""The examples of one record: one, or the chosen and the rejected side of a pair."""


def encoded(encoder: Encoder, records: Sequence[Conversation]) -> list[Examples | MarkInText]:
    """Return the examples of each record, or the text that keeps it from being tokenized.

    The records are either all conversations or all preference pairs.
    """
    pairs = [record for record in records if isinstance(record, Preference)]
    if not pairs:
        alone = encoder.encode_all(records)
        return [(one,) if isinstance(one, Example) else one for one in alone]
    chosen = encoder.encode_all([pair.chosen_conversation() for pair in pairs])
    rejected = encoder.encode_all([pair.rejected_conversation() for pair in pairs])
    return [_pair(*both) for both in zip(chosen, rejected, strict=True)]


def _pair(chosen: Example | MarkInText, rejected: Example | MarkInText) -> Examples | MarkInText:
    if isinstance(chosen, MarkInText):
        return chosen
    if isinstance(rejected, MarkInText):
        return replace(rejected, place="rejected")  # the chosen side has the other texts as well
    if not (chosen.dropped_answers or rejected.dropped_answers):
        return last_answer(chosen), last_answer(rejected)
    return tuple(_empty(each) for each in (chosen, rejected))


def _empty(example: Example) -> Example:
    whole = len(example.input_ids) + example.dropped_tokens
    return Example([], [], dropped_answers=1, dropped_tokens=whole)
