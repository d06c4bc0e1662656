"""Examples in a file: tokenized once, then read by every training process without a copy.

One safetensors file holds all tokens one after another, their labels, and where each example
begins. The invariant: the file holds what every conversation gave, in their order, except for
conversations of which not even the first answer fits; those are counted, never silent.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch.utils.data import Dataset

from tasks.core import files
from tasks.core.conversation.labels import Encoder, Example
from tasks.core.conversation.records import Conversation
from tasks.core.errors import DataError

_SHOWN_FAULTS = 10


@dataclass(frozen=True)
class ExampleCounts:
    """What became of the conversations."""

    conversations: int
    too_long_conversations: int
    too_long_answers: int
    tokens: int
    learned_tokens: int

    @property
    def examples(self) -> int:
        """How many conversations can be learned from."""
        return self.conversations - self.too_long_conversations


class ExampleFile(Dataset[dict[str, torch.Tensor]]):
    """The examples of a file: `input_ids` (T,) and `labels` (T,), int64, memory-mapped."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            self._input_ids = file.get_tensor("input_ids")
            self._labels = file.get_tensor("labels")
            self._starts = file.get_tensor("starts")

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each example, without reading them."""
        lengths: list[int] = self._starts.diff().tolist()
        return lengths

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        here = slice(int(self._starts[index]), int(self._starts[index + 1]))
        return {"input_ids": self._input_ids[here].long(), "labels": self._labels[here].long()}


def write_examples(
    path: Path, conversations: Iterable[Conversation], encoder: Encoder
) -> ExampleCounts:
    """Write the examples of all conversations to path, whole or not at all, and count them.

    Raises DataError when a conversation cannot be encoded, and when nothing is left to learn.
    """
    examples, too_long, too_long_answers = [], 0, 0
    for example in _encoded(conversations, encoder):
        too_long += not example.input_ids
        too_long_answers += example.dropped_answers
        if example.input_ids:
            examples.append(example)
    if not examples:
        raise DataError(
            "Nothing is left to learn.",
            where=path.name,
            found=f"{too_long} conversations, in none of which the first answer fits whole",
            next_step="Raise finetune.max_length_tokens, or take shorter conversations.",
        )
    files.write_atomically(path, save(_tensors(examples)))
    return ExampleCounts(
        conversations=len(examples) + too_long,
        too_long_conversations=too_long,
        too_long_answers=too_long_answers,
        tokens=sum(len(example.input_ids) for example in examples),
        learned_tokens=sum(example.learned_tokens for example in examples),
    )


def _encoded(conversations: Iterable[Conversation], encoder: Encoder) -> list[Example]:
    examples: list[Example] = []
    faults: list[DataError] = []
    for conversation in conversations:
        try:
            examples.append(encoder.encode(conversation))
        except DataError as fault:
            faults.append(fault)
    if faults:
        shown = [f"\n    {e.where}: {e.what} {e.found}" for e in faults[:_SHOWN_FAULTS]]
        more = len(faults) - len(shown)
        raise DataError(
            f"{len(faults)} of {len(faults) + len(examples)} conversations cannot be encoded.",
            found="".join(shown) + (f"\n    and {more} more" if more else ""),
            next_step="Correct these conversations, or take them out of the file.",
        )
    return examples


def _tensors(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    input_ids, labels, starts = array("i"), array("i"), array("q", [0])
    for example in examples:
        input_ids.extend(example.input_ids)
        labels.extend(example.labels)
        starts.append(len(input_ids))
    return {
        "input_ids": torch.frombuffer(input_ids, dtype=torch.int32),
        "labels": torch.frombuffer(labels, dtype=torch.int32),
        "starts": torch.frombuffer(starts, dtype=torch.int64),
    }
