"""What was observed of loaded models on a fixed input, and the result of one check of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

Sublayer = Literal["attention", "mlp"]


@dataclass(frozen=True)
class Observation:
    """One model, or one of its layers alone, on a fixed input of T tokens.

    modules: the class of each layer's act_fn. act_values (layers, points), fp32: what it computes.
    inv_freq (head_dim / 2), fp32: as a forward pass at the far end of the context uses it.
    before: the states up to the first edited place, each (1, T, hidden) in the model's dtype.
    result: the logits (1, T, vocab), or the output of the layer alone (1, T, hidden).
    probed: the output of each edited module on its probe, (1, tokens, hidden), by its name.
    act_range: the lowest and highest input of an edited layer's activation.
    logprobs: of each token of the prompt after the first; empty for a layer alone.
    """

    modules: tuple[str, ...]
    act_values: "Tensor"
    inv_freq: "Tensor"
    before: "tuple[Tensor, ...]"
    result: "Tensor"
    probed: "dict[str, Tensor]"
    act_range: tuple[float, float]
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class ObservedModels:
    """The unedited model, the reference and the edited model on the same input.

    place: "logits", or the layer that was observed. prompt_ids: the tokens of the prompt; empty
    where layers alone were observed.
    """

    place: str
    unedited: Observation
    reference: Observation
    edited: Observation
    prompt_ids: tuple[int, ...] = ()


class EditCheck(BaseModel):
    """One statement about an edit, and whether it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    passed: bool
    detail: str
