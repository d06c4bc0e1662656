"""Examples as training reads them, without a copy, from the file that `examples` has written."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch.utils.data import Dataset


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
