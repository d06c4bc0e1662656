"""An estimate of the lengths of conversations without a tokenizer, for the times of a plan only.

Reads the beginning of a large file and extrapolates.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.reading.data_sources import is_local, local_files
from tasks.core.conversation.reading.scan import scan
from tasks.core.conversation.records import Conversation
from tasks.core.errors import DataError
from tasks.core.recipe import Finetune

_BYTES_A_TOKEN = 2.6  # of UTF-8, in Indonesian: between SmolLM2's tokenizer and LLaMA's
_TOKENS_A_TURN = 6  # what the template adds
_ENOUGH_BYTES = 8 << 20


@dataclass(frozen=True)
class RoughLengths:
    """The estimated number of conversations, and their mean length, alone and padded in a batch."""

    conversations: int
    mean_tokens: float
    padded_tokens: float

    @property
    def tokens(self) -> int:
        """The total number of tokens, without padding."""
        return round(self.conversations * self.mean_tokens)


def training_lengths(settings: Finetune) -> RoughLengths | None:
    """Return the lengths of what an epoch trains on, None unless all of it is on this machine."""
    rows = settings.micro_batch_size if settings.batching == "pad" else 1
    try:
        files = local_files(settings.data) if all(map(is_local, settings.data)) else ()
    except DataError:
        return None
    cut = settings.max_length_tokens
    found = [(each, lengths_of(each, cut=cut, padded_to_longest_of=rows)) for each in files]
    known = [(each.weight * of.conversations, of) for each, of in found if of is not None]
    if not known or len(known) < len(found):
        return None
    weights = [weight for weight, _ in known]
    return RoughLengths(
        conversations=round(sum(weights)),
        mean_tokens=fmean([of.mean_tokens for _, of in known], weights),
        padded_tokens=fmean([of.padded_tokens for _, of in known], weights),
    )


def lengths_of(
    data: Path | DataFile, *, cut: int, padded_to_longest_of: int = 1
) -> RoughLengths | None:
    """Return the lengths, limited to `cut` tokens each; None if nothing can be read.

    A preference pair counts as one conversation with the length of both its sides; in a batch each
    side is padded to the longest of all.
    """
    read = total = 0

    def watch(done: int, size: int) -> None:
        nonlocal read, total
        read, total = done, size

    tokens: list[int] = []
    padded_alone: list[int] = []
    try:
        for _, record in scan(data, merge_neighbours=True, on_progress=watch):
            if isinstance(record, Preference):
                sides = [record.chosen_conversation(), record.rejected_conversation()]
            elif isinstance(record, Conversation):
                sides = [record]
            else:
                continue
            lengths = [min(cut, _tokens(side)) for side in sides]
            tokens.append(sum(lengths))
            padded_alone.append(len(lengths) * max(lengths))
            if read > _ENOUGH_BYTES:
                break
    except DataError:
        return None
    if not tokens:
        return None
    return RoughLengths(
        conversations=round(len(tokens) * max(1.0, total / read)) if read else len(tokens),
        mean_tokens=fmean(tokens),
        padded_tokens=fmean(_longest(padded_alone, padded_to_longest_of)),
    )


def _tokens(conversation: Conversation) -> int:
    texts = [turn.text for turn in conversation.turns]
    size_bytes = sum(len(text.encode()) for text in texts)
    return round(size_bytes / _BYTES_A_TOKEN) + _TOKENS_A_TURN * len(texts)


def _longest(tokens: list[int], rows: int) -> Iterator[int]:
    for start in range(0, len(tokens), rows):
        yield max(tokens[start : start + rows])
