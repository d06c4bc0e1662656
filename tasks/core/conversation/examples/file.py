"""Example files as training reads them: memory-mapped, without a copy.

A file of preference pairs holds two examples per pair, the chosen side followed by the rejected.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from torch.utils.data import Dataset

from tasks.core.conversation.preferences import Method


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


class PairFile(Dataset[dict[str, torch.Tensor]]):
    """The pairs of a file: an example's fields, and those of the other side as `rejected_…`."""

    def __init__(self, path: Path) -> None:
        self._examples = ExampleFile(path)

    def __len__(self) -> int:
        return len(self._examples) // 2

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of the longer side of each pair, to which both are padded."""
        lengths = self._examples.lengths
        return [max(both) for both in zip(lengths[::2], lengths[1::2], strict=True)]

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        chosen, rejected = self._examples[2 * index], self._examples[2 * index + 1]
        return chosen | {f"rejected_{name}": values for name, values in rejected.items()}


def rows_of(path: Path, method: Method) -> ExampleFile | PairFile:
    """Return the data set of a file: its examples, or its pairs for `dpo`."""
    return PairFile(path) if method == "dpo" else ExampleFile(path)
