"""A model's predictions at the learned positions of a text, in the smallest lossless form.

Log-probabilities of T positions are (T, vocabulary): 215 MB for 1,093 positions and 49,152 tokens.
They follow from the states before the output layer, (T, hidden), 85 times smaller in that case. So
a model's states are kept in a file, and its output layer in memory; when a later model is compared
with it, the log-probabilities are recomputed a few positions at a time. The invariant: they equal
those of the model itself. Where its logits are not just the product of states and output layer (a
soft cap, a scale, a layer that is not in memory), its logits are kept instead of its states.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.conversation.examples.labels import IGNORED, Example
from tasks.core.files.disk_space import require_disk_space
from tasks.core.system.errors import names_path

ROWS = 128
"""Positions whose log-probabilities are computed at once: many enough to read the output layer
rarely, few enough that they take little memory compared with a model."""
_TRIED_TOKENS = 8


@dataclass(frozen=True)
class StoredPredictions:
    """Rows (positions, width) in a memory-mapped file, and the output layer for them.

    Without a head the rows are the logits themselves.
    """

    path: Path
    positions: int
    width: int
    dtype: torch.dtype
    head: nn.Linear | None

    def open(self) -> Tensor:
        """Return the rows; writing to them changes the file."""
        size = self.positions * self.width
        flat = torch.from_file(str(self.path), shared=True, size=size, dtype=self.dtype)
        return flat.view(self.positions, self.width)

    def create(self) -> "StoredPredictions":
        """Create the file, empty, and return self. Raises DiskFull when there is no room for it."""
        size_bytes = self.dtype.itemsize * self.positions * self.width
        require_disk_space(self.path.parent, size_bytes)
        with names_path(self.path), self.path.open("wb") as file:
            file.truncate(size_bytes)
        return self


class PredictionReader:
    """A model that reads examples.

    `head` is its output layer, None where the logits are more than that layer's output.
    """

    def __init__(self, model: PreTrainedModel, examples: Sequence[Example]) -> None:
        self._model = model
        tokens = next((each.input_ids for each in examples if each.input_ids), [0])
        self.head = _plain_head(model, tokens[:_TRIED_TOKENS])
        parameters = inspect.signature(type(model).forward).parameters
        self._can_skip_logits = "logits_to_keep" in parameters

    def predictions_in(self, path: Path, positions: int) -> StoredPredictions:
        """Return the file for predictions at this many positions; it is not created yet."""
        if self.head is None:
            width = int(self._model.config.vocab_size)
            return StoredPredictions(path, positions, width, torch.float32, None)
        width, dtype = self.head.in_features, self.head.weight.dtype
        return StoredPredictions(path, positions, width, dtype, _copy_of(self.head))

    @torch.inference_mode()
    def read(self, example: Example) -> tuple[Tensor, Tensor]:
        """Return rows (T, width) and targets (T,) at the T learned positions of one example.

        Examples are read one at a time, so there is no padding.
        """
        input_ids = torch.tensor([example.input_ids], device=self._model.device)
        targets = torch.tensor(example.labels[1:])
        positions = (targets != IGNORED).nonzero()[:, 0]
        first = int(positions[0])
        if self.head is not None:
            rows = _states(self._model, input_ids)
        else:
            rows, positions = self._logits(input_ids, first), positions - first
        return rows[positions.to(rows.device)], targets[targets != IGNORED]

    def _logits(self, input_ids: Tensor, first: int) -> Tensor:
        """Return the logits of the positions from `first` on.

        Selected by a count rather than a mask: a model on several devices does not move a mask.
        """
        options: dict[str, int] = {}
        if self._can_skip_logits:
            options["logits_to_keep"] = input_ids.shape[1] - first
        logits: Tensor = self._model(input_ids=input_ids, use_cache=False, **options).logits[0]
        return logits if options else logits[first:]


def logprobs_of(rows: Tensor, head: nn.Linear | None) -> Tensor:
    """Return log-probabilities (T, vocabulary) float32 of rows (T, width), on the head's device."""
    logits = rows if head is None else head(rows.to(head.weight.device))
    return logits.float().log_softmax(-1)


def pieces(positions: int) -> Iterator[slice]:
    """Yield the positions in order, ROWS at a time."""
    for start in range(0, positions, ROWS):
        yield slice(start, min(start + ROWS, positions))


@torch.inference_mode()
def _copy_of(head: nn.Linear) -> nn.Linear:
    """Return a copy of the layer in its own memory: its weight may be part of the model's map."""
    has_bias = head.bias is not None
    copy = nn.Linear(head.in_features, head.out_features, bias=has_bias, device="meta")
    copy.weight = nn.Parameter(head.weight.clone(), requires_grad=False)
    if has_bias:
        copy.bias = nn.Parameter(head.bias.clone(), requires_grad=False)
    return copy


def _states(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    base: Any = model.base_model
    states: Tensor = base(input_ids=input_ids, use_cache=False).last_hidden_state[0]
    return states


@torch.inference_mode()
def _plain_head(model: PreTrainedModel, tokens: Sequence[int]) -> nn.Linear | None:
    """Return the output layer if applying it to the last states gives the logits, bit for bit."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if type(head) is not nn.Linear or head.weight.is_meta or model.base_model is model:
        return None
    input_ids = torch.tensor([tokens], device=model.device)
    states = _states(model, input_ids)
    if states.dtype != head.weight.dtype or states.shape[-1] != head.in_features:
        return None
    logits = model(input_ids=input_ids, use_cache=False).logits[0]
    same = torch.equal(head(states.to(head.weight.device)).cpu(), logits.cpu())
    return head if same else None
