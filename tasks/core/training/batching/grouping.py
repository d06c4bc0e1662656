"""An order of training that puts conversations of similar length together, to save padding.

Differs from transformers' LengthGroupedSampler in two ways: the groups come in random order, so
that a step sees short and long ones, and the order depends on seed and epoch alone, so that a
resumed training sees what an undisturbed one would. As there, the longest conversation comes first
of all: if it does not fit into memory, the first step shows it, at the cost of no later one.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_GROUPS_AT_ONCE = 50  # sorted together; more would save little padding and mix less


class LengthGroups(Sampler[int]):
    """Every index once per epoch, in groups of similar length (of 1: in random order)."""

    def __init__(self, lengths: Sequence[int], group_size: int, seed: int) -> None:
        """group_size counts all processes together: each gets its share of a group.

        Batches of a divisor of that size see the same groups in the same order.
        """
        self._lengths = lengths
        self._group_size = group_size
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order the next iteration has; called by the data loader."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = torch.Generator().manual_seed(self._seed + self._epoch)
        shuffled = torch.randperm(len(self._lengths), generator=random).tolist()
        if self._epoch == 0 and shuffled:
            longest = max(range(len(shuffled)), key=lambda at: self._lengths[shuffled[at]])
            shuffled[0], shuffled[longest] = shuffled[longest], shuffled[0]
        size, pool = self._group_size, self._group_size * _GROUPS_AT_ONCE
        groups = [
            ordered[start : start + size]
            for first in range(0, len(shuffled), pool)
            for ordered in [self._longest_first(shuffled[first : first + pool])]
            for start in range(0, len(ordered), size)
        ]
        # A group that is not full would shift the borders of all later ones, so it comes last.
        full = [group for group in groups if len(group) == size]
        rest = [group for group in groups if len(group) < size]
        order = torch.randperm(len(full), generator=random).tolist()
        if self._epoch == 0 and full:
            order.remove(0)
            order.insert(0, 0)
        for group in [*(full[i] for i in order), *rest]:
            yield from group

    def _longest_first(self, indices: Sequence[int]) -> list[int]:
        return sorted(indices, key=lambda index: -self._lengths[index])
