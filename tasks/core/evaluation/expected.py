"""What a model expects at the learned positions of a text, in the smallest form that loses nothing.

Log-probabilities of T positions are (T, vocabulary): 215 MB for 1,093 of them and 49,152 tokens.
They come of the states before the output layer, (T, hidden), 85 times smaller there. So the states
are what is kept of a model, in a file, and its output layer in memory; a later model that is held
against it makes the log-probabilities anew, a few positions at a time. The invariant: they are
those of the model itself. Where its logits are more than the product of states and layer (a soft
cap, a scale, a layer that is not in memory), its logits are kept in place of its states.
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
"""Positions whose log-probabilities are made at once: enough to read the output layer seldom, few
enough that what they take is small beside a model."""
_TRIED_TOKENS = 8


@dataclass(frozen=True)
class Expected:
    """Rows (positions, width) in a file, memory-mapped, and what makes logits of them.

    Without a head the rows are the logits themselves.
    """

    path: Path
    positions: int
    width: int
    dtype: torch.dtype
    head: nn.Linear | None

    def open(self) -> Tensor:
        """Return the rows; what is written to them is in the file."""
        size = self.positions * self.width
        flat = torch.from_file(str(self.path), shared=True, size=size, dtype=self.dtype)
        return flat.view(self.positions, self.width)

    def create(self) -> "Expected":
        """Make the file, empty, and return this. Raises DiskFull when there is no room for it."""
        size_bytes = self.dtype.itemsize * self.positions * self.width
        require_disk_space(self.path.parent, size_bytes)
        with names_path(self.path), self.path.open("wb") as file:
            file.truncate(size_bytes)
        return self


class Reader:
    """A model that reads examples. `head` is its output layer where that alone makes its logits."""

    def __init__(self, model: PreTrainedModel, examples: Sequence[Example]) -> None:
        self._model = model
        tokens = next((each.input_ids for each in examples if each.input_ids), [0])
        self.head = _plain_head(model, tokens[:_TRIED_TOKENS])
        parameters = inspect.signature(type(model).forward).parameters
        self._leaves_logits_out = "logits_to_keep" in parameters

    def expected_in(self, path: Path, positions: int) -> Expected:
        """Return the file for what this model expects at so many positions; it is not made yet."""
        if self.head is None:
            width = int(self._model.config.vocab_size)
            return Expected(path, positions, width, torch.float32, None)
        width, dtype = self.head.in_features, self.head.weight.dtype
        return Expected(path, positions, width, dtype, _copy_of(self.head))

    @torch.inference_mode()
    def read(self, example: Example) -> tuple[Tensor, Tensor]:
        """Return rows (T, width) and targets (T,) at the T learned positions of one example.

        Alone, so that no padding takes part.
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

        A number of positions, not a mask of them: a model on several devices moves no mask along.
        """
        options: dict[str, int] = {}
        if self._leaves_logits_out:
            options["logits_to_keep"] = input_ids.shape[1] - first
        logits: Tensor = self._model(input_ids=input_ids, use_cache=False, **options).logits[0]
        return logits if options else logits[first:]


def log_probabilities(rows: Tensor, head: nn.Linear | None) -> Tensor:
    """Return those of rows (T, width), (T, vocabulary) float32, on the device of the head."""
    logits = rows if head is None else head(rows.to(head.weight.device))
    return logits.float().log_softmax(-1)


def pieces(positions: int) -> Iterator[slice]:
    """Yield the positions in their order, ROWS at a time."""
    for start in range(0, positions, ROWS):
        yield slice(start, min(start + ROWS, positions))


@torch.inference_mode()
def _copy_of(head: nn.Linear) -> nn.Linear:
    """Return the layer in memory of its own: its weight can be a piece of the whole model's map."""
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
    """Return the output layer if its product with the last states is the logits, to the bit."""
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
