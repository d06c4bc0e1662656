"""What was seen of a loaded model on a fixed prompt, and what a check made of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """One model, or one of its layers alone, on a fixed input of T tokens.

    modules: the class of each layer's act_fn. act_values (layers, points), fp32: what it computes.
    inv_freq (head_dim / 2), fp32: as a forward pass at the far end of the context uses it.
    before: the states that come before the first edited place, each (1, T, hidden) in the model's
    dtype. result: the logits (1, T, vocab), or what the layer alone gives (1, T, hidden).
    probed: what each edited module gives on its probe, (1, tokens, hidden), by its name.
    act_range: the lowest and the highest value that an edited layer's activation gets on the input.
    logprobs: of each token of the prompt but the first; none of a layer alone.
    """

    modules: tuple[str, ...]
    act_values: "Tensor"
    inv_freq: "Tensor"
    before: "tuple[Tensor, ...]"
    result: "Tensor"
    probed: "dict[str, Tensor]"
    act_range: tuple[float, float]
    logprobs: tuple[float, ...]


class Check(BaseModel):
    """One statement about an edit, and whether it was found true."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    passed: bool
    detail: str
