"""The activation functions that an edit may name: transformers' registry, minus the learned ones.

The invariant: a name that passes `require_activation` is a function of its input alone, so it can
replace another activation without adding a weight to the model's files.
"""

import difflib

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from tasks.core.errors import RecipeError

# These have weights of their own, which the shared weight files do not hold: a loader would
# initialize them like any missing weight.
LEARNED = frozenset({"prelu", "xielu"})

ROUNDING = 1e-5


def require_activation(name: str) -> None:
    """Raise RecipeError unless name is an activation that an edit may name."""
    if name in LEARNED:
        raise RecipeError(
            f"The activation {name} has weights of its own, and no weight file holds them.",
            where="edit.activations",
            found=name,
            next_step="Name an activation without weights, such as gelu, silu or relu.",
        )
    if name not in ACT2FN:
        usable = sorted(set(ACT2FN) - LEARNED)
        near = difflib.get_close_matches(name.lower(), usable, n=3)
        raise RecipeError(
            "transformers knows no activation of this name.",
            where="edit.activations",
            expected="one of " + ", ".join(usable),
            found=name,
            next_step=f"Did you mean {' or '.join(near)}?" if near else None,
        )


def activation(name: str) -> nn.Module:
    """Return a new module of the named activation."""
    module: nn.Module = ACT2FN[name]
    return module


def values_of(act_fn: nn.Module) -> Tensor:
    """Return act_fn at 193 fixed points from -12 to 12, fp32 on the CPU.

    The range exceeds 10 because gelu_10 equals gelu up to there. Works under hooks that move
    tensors between devices.
    """
    with torch.no_grad():
        values: Tensor = act_fn(torch.linspace(-12, 12, 193))
    return values.float().cpu()


def computes(act_fn: nn.Module, name: str) -> bool:
    """Return whether act_fn computes the named activation, within fp32 rounding.

    torch's own gelu varies by 2e-6 between devices; gelu_new differs from it by 4e-4.
    """
    return torch.allclose(values_of(act_fn), values_of(activation(name)), atol=ROUNDING)


def name_of(act_fn: nn.Module, likely: str) -> str:
    """Return the name of the function that act_fn computes, trying `likely` first.

    A function without a name in the registry is "unknown" with its class.
    """
    usable = [name for name in ACT2FN if name not in LEARNED]
    names = (name for name in [likely, *usable] if computes(act_fn, name))
    return next(names, f"unknown ({type(act_fn).__name__})")
