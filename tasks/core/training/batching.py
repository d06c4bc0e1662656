"""How examples become batches, as the recipe chooses: padded, grouped by length, or packed.

The invariant: the row that needs the most memory comes first, whichever way is chosen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from tasks.core.conversation.examples.file import ExampleFile, PairFile
from tasks.core.recipe import Finetune
from tasks.core.training.batches import Collator, PairCollator
from tasks.core.training.grouping import LengthGroups
from tasks.core.training.job import group_size
from tasks.core.training.packing import PackedCollator, PackedExamples

Collate = Callable[[Sequence[dict[str, torch.Tensor]]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Batching:
    """Rows to train on, what makes a batch of some, and their order."""

    rows: Dataset[dict[str, torch.Tensor]]
    collate: Collate
    sampler: LengthGroups


def batching_of(
    settings: Finetune,
    examples: ExampleFile | PairFile,
    pad_token_id: int,
    *,
    in_groups_of: int | None = None,
) -> Batching:
    """Return the batching that the settings choose, in groups of that many or as they say."""
    size, seed = in_groups_of or group_size(settings) or 1, settings.seed
    order = LengthGroups(examples.lengths, size, seed)
    if isinstance(examples, PairFile):
        return Batching(examples, PairCollator(pad_token_id), order)
    if settings.batching == "pack":
        rows = PackedExamples(examples, settings.max_length_tokens)
        order = LengthGroups(rows.lengths, size, seed)
        return Batching(rows, PackedCollator(pad_token_id), order)
    return Batching(examples, Collator(pad_token_id), order)


def row_count(settings: Finetune, examples: ExampleFile | PairFile) -> int:
    """Return how many rows an epoch has: conversations, packs of them, or pairs."""
    if settings.batching == "pack" and isinstance(examples, ExampleFile):
        return len(PackedExamples(examples, settings.max_length_tokens))
    return len(examples)
