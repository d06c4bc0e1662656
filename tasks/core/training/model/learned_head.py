"""Runs the output layer on learned tokens only: same loss, same gradient.

The logits of padding, of the user's words and of a row's last token do not enter the loss, and a
vocabulary is large: one token's logits of SmolLM2 are 200 kB in fp32. The model still computes its
own loss, so that micro batches and devices are weighted as transformers does it.
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

    `logits_to_keep` is a mask; the logits that it keeps are (learned, vocabulary), row after row,
    as are `shift_labels` (learned,). The attention mask is dropped: no token attends to the padding
    on its right, and without a mask the kernels skip the future.
    """
    following = pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    learned = following != IGNORED
    kept = {name: value for name, value in batch.items() if name != "attention_mask"}
    return {**kept, "logits_to_keep": learned, "shift_labels": following[learned]}


def takes_positions(model: nn.Module) -> bool:
    """Return whether the model's forward pass accepts the additions of `learned_only`.

    transformers' own classes do, and subclasses that inherit their forward pass. A model's own code
    may read `logits_to_keep` as a number of tokens.
    """
    forward = type(model).forward
    parameters = inspect.signature(forward).parameters
    return forward.__module__.startswith(_OWN) and "logits_to_keep" in parameters
