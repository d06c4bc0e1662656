"""How examples become batches, as the recipe chooses: padded, grouped by length, or packed.

The invariant: whichever is chosen, the row that needs the most memory comes first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from tasks.core.conversation.examples.file import ExampleFile, PairFile
from tasks.core.recipe import Finetune
from tasks.core.training.batching.grouping import LengthGroups
from tasks.core.training.batching.packing import PackedCollator, PackedExamples
from tasks.core.training.batching.padding import Collator, PairCollator

Collate = Callable[[Sequence[dict[str, torch.Tensor]]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Batching:
    """Rows to train on, their order, and the function that collates some into a batch."""

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
    """Return the batching that the settings choose.

    in_groups_of: the size of a group of similar length; by default that of these settings.
    """
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
    """Return how many rows an epoch has: conversations, packed rows, or pairs."""
    if settings.batching == "pack" and isinstance(examples, ExampleFile):
        return len(PackedExamples(examples, settings.max_length_tokens))
    return len(examples)


def group_size(settings: Finetune) -> int | None:
    """Return how many conversations of similar length make a group; None for a random order.

    It decides which conversations are left after a checkpoint.
    """
    grouped = settings.batching == "group"
    return settings.micro_batch_size * settings.processes if grouped else None
