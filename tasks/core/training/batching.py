"""How examples become batches, as the recipe chooses: padded, grouped by length, or packed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset, Sampler

from tasks.core.conversation.example_file import ExampleFile
from tasks.core.recipe import Finetune
from tasks.core.training.batches import Collator
from tasks.core.training.grouping import LengthGroups
from tasks.core.training.job import group_size
from tasks.core.training.packing import PackedCollator, PackedExamples

Collate = Callable[[Sequence[dict[str, torch.Tensor]]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Batching:
    """Rows to train on, what makes a batch of some, and their order, by default a random one."""

    rows: Dataset[dict[str, torch.Tensor]]
    collate: Collate
    sampler: Sampler[int] | None = None


def batching_of(settings: Finetune, examples: ExampleFile, pad_token_id: int) -> Batching:
    """Return the batching that the settings choose."""
    if settings.batching == "pack":
        rows = PackedExamples(examples, settings.max_length_tokens)
        return Batching(rows, PackedCollator(pad_token_id))
    if (size := group_size(settings)) is not None:
        order = LengthGroups(examples.lengths, size, settings.seed)
        return Batching(examples, Collator(pad_token_id), order)
    return Batching(examples, Collator(pad_token_id))


def row_count(settings: Finetune, examples: ExampleFile) -> int:
    """Return how many rows an epoch has: conversations, or packs of them."""
    if settings.batching == "pack":
        return len(PackedExamples(examples, settings.max_length_tokens))
    return len(examples)
