"""Tokens of both answers of a preference, of which nothing but that answer is judged.

The invariant: both sides hold the same conversation whole, and only the tokens of the answer at
their end have a label; a pair of which one side does not fit is empty on both.
"""

from collections.abc import Sequence

from tasks.core.conversation.labels import Encoder, Example, last_answer
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.records import Conversation
from tasks.core.errors import DataError

Examples = tuple[Example, ...]
"""What a record becomes: one example, or of a preference the chosen and the rejected one."""


def encoded(encoder: Encoder, records: Sequence[Conversation]) -> list[Examples | DataError]:
    """Return the examples of each record, all conversations or all preferences, or why not."""
    pairs = [record for record in records if isinstance(record, Preference)]
    if not pairs:
        alone = encoder.encode_all(records)
        return [(one,) if isinstance(one, Example) else one for one in alone]
    chosen = encoder.encode_all([pair.chosen_conversation() for pair in pairs])
    rejected = encoder.encode_all([pair.rejected_conversation() for pair in pairs])
    return [_pair(*both) for both in zip(chosen, rejected, strict=True)]


def _pair(chosen: Example | DataError, rejected: Example | DataError) -> Examples | DataError:
    if isinstance(chosen, DataError):
        return chosen
    if isinstance(rejected, DataError):
        return _of_rejected(rejected)
    if not (chosen.dropped_answers or rejected.dropped_answers):
        return last_answer(chosen), last_answer(rejected)
    return tuple(_nothing(each) for each in (chosen, rejected))


def _of_rejected(error: DataError) -> DataError:
    """Return the error of a rejected conversation, whose last turn is that answer."""
    where = (error.where or "").rpartition(", ")[0]
    return DataError(
        error.what, where=f"{where}, rejected", found=error.found, next_step=error.next_step
    )


def _nothing(example: Example) -> Example:
    whole = len(example.input_ids) + example.dropped_tokens
    return Example([], [], dropped_answers=1, dropped_tokens=whole)
