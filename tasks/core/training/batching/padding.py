"""Examples of different lengths as one batch, padded no further than the longest needs."""

from collections.abc import Sequence

import torch

from tasks.core.conversation.examples.labels import IGNORED

_MULTIPLE = 8  # tensor cores work on tiles of eight


class Collator:
    """Pads on the right to the length of the longest example, rounded up to a multiple of eight."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, examples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return input_ids, labels and attention_mask, each (B, T), int64."""
        longest = max(len(example["input_ids"]) for example in examples)
        shape = (len(examples), -(-longest // _MULTIPLE) * _MULTIPLE)
        input_ids = torch.full(shape, self._pad_token_id)
        labels = torch.full(shape, IGNORED)
        attention_mask = torch.zeros(shape, dtype=torch.int64)
        for row, example in enumerate(examples):
            length = len(example["input_ids"])
            input_ids[row, :length] = example["input_ids"]
            labels[row, :length] = example["labels"]
            attention_mask[row, :length] = 1
        return {"input_ids": input_ids, "labels": labels, "attention_mask": attention_mask}


class PairCollator(Collator):
    """Pads the chosen sides of pairs, followed by the rejected ones, to one length."""

    def __call__(self, examples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return input_ids, labels and attention_mask, each (2B, T), int64."""
        names = ("input_ids", "labels")
        rejected = [{name: pair[f"rejected_{name}"] for name in names} for pair in examples]
        return super().__call__([*examples, *rejected])
