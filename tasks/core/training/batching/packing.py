"""Several conversations in one row, with no attention between them.

transformers builds the mask from the position ids: where they do not increase by one, another
conversation begins (`masking_utils.find_packed_sequence_indices`). It does so only without an
attention mask and without a cache: with `config.use_cache` on, the conversations would silently see
each other, and the kernels of FlashAttention look at the ids only in a batch of one row.
`require_packable` refuses both. The invariant: the loss of a row is that of its conversations, one
by one.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

import torch
from torch.utils.data import Dataset
from transformers import PretrainedConfig

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.examples.labels import IGNORED
from tasks.core.errors import RecipeError

_MULTIPLE = 8  # tensor cores work on tiles of eight
_MASK_BUILDING = ("eager", "sdpa")


def pack(lengths: Sequence[int], row_tokens: int) -> list[tuple[int, ...]]:
    """Return which examples share a row of at most row_tokens; a longer one has a row of its own.

    Best fit, the longest first: within 22% of the fewest rows (Johnson 1974), mostly within 1%.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = bisect_left(room, (lengths[index], 0))
        if place == len(room):
            rows.append([index])
            left = (row_tokens - lengths[index], len(rows) - 1)
        else:
            left_before, row = room.pop(place)
            rows[row].append(index)
            left = (left_before - lengths[index], row)
        if left[0] > 0:
            insort(room, left)
    return [tuple(row) for row in rows]


class PackedExamples(Dataset[dict[str, torch.Tensor]]):
    """Rows of an example file: `input_ids`, `labels` and `position_ids`, each (T,), int64."""

    def __init__(self, examples: ExampleFile, row_tokens: int) -> None:
        self._examples = examples
        self._rows = pack(examples.lengths, row_tokens)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each row, without reading the rows."""
        lengths = self._examples.lengths
        return [sum(lengths[i] for i in row) for row in self._rows]

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return joined([self._examples[i] for i in self._rows[index]])


def joined(examples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the examples one after another, with positions that restart for each.

    An example that already has `position_ids`, as a row does, keeps them.
    """
    labels = [example["labels"].clone() for example in examples]
    for one in labels:
        one[0] = IGNORED  # else the end of the previous conversation would have to predict it
    positions = [e.get("position_ids", torch.arange(len(e["input_ids"]))) for e in examples]
    return {
        "input_ids": torch.cat([example["input_ids"] for example in examples]),
        "labels": torch.cat(labels),
        "position_ids": torch.cat(positions),
    }


class PackedCollator:
    """Pads rows to the longest, rounded up to a multiple of eight, without an attention mask.

    The padding is a conversation of its own, of which nothing is learned.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return input_ids, labels and position_ids, each (B, T), int64."""
        longest = max(len(row["input_ids"]) for row in rows)
        length = -(-longest // _MULTIPLE) * _MULTIPLE
        padded = [joined([row, *self._padding(length - len(row["input_ids"]))]) for row in rows]
        return {name: torch.stack([row[name] for row in padded]) for name in padded[0]}

    def _padding(self, length: int) -> Iterable[dict[str, torch.Tensor]]:
        if length:
            pad, ignored = torch.full((length,), self._pad_token_id), torch.full((length,), IGNORED)
            yield {"input_ids": pad, "labels": ignored}


def require_packable(config: PretrainedConfig) -> None:
    """Raise RecipeError when a loaded model would let conversations of one row see each other."""
    attention = config._attn_implementation
    if attention in _MASK_BUILDING and not config.use_cache:
        return
    raise RecipeError(
        "With this model, the conversations of a packed row would attend to each other.",
        where="finetune.batching",
        expected=f"attention of {' or '.join(_MASK_BUILDING)}, without a cache",
        found=f"{attention}, cache {'on' if config.use_cache else 'off'}",
        next_step="Set finetune.batching to group.",
    )
