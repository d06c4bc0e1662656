"""The output layer for the tokens that are learned, and no others: same loss, same gradient.

The logits of padding, of the user's words and of the last token of a row decide nothing, and a
vocabulary is wide: in fp32 a row of SmolLM2's is 200 kB. The model still computes its own loss, so
that gradient accumulation and devices are weighted as transformers does it.
"""

import inspect
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import pad

from tasks.core.conversation.examples.labels import IGNORED

_OWN = "transformers.models."


def learned_only(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the batch with the positions (B, T) that predict a learned token, and those tokens.

    `logits_to_keep` is a mask; the logits that it leaves are (learned, vocabulary), row after row,
    as are `shift_labels` (learned,). The attention mask is left out: no token sees the padding to
    the right of it, and without a mask the kernels skip what no token may see.
    """
    following = pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    learned = following != IGNORED
    kept = {name: value for name, value in batch.items() if name != "attention_mask"}
    return {**kept, "logits_to_keep": learned, "shift_labels": following[learned]}


def takes_positions(model: nn.Module) -> bool:
    """Return whether the model's forward pass understands what `learned_only` adds.

    transformers' own classes do, and subclasses that inherit their forward pass. Code that travels
    with a model may take `logits_to_keep` for a number of tokens.
    """
    forward = type(model).forward
    parameters = inspect.signature(forward).parameters
    return forward.__module__.startswith(_OWN) and "logits_to_keep" in parameters
