"""What a loaded model computes without generating: log-probabilities of a prompt, embeddings.

Used in the engine's process, by the proof before the port opens and by requests afterwards.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

_ROWS = 256
"""Positions whose log-probabilities are computed at once: 256 x 32000 x 4 bytes are 33 MB."""
_TEXTS = 8


@torch.inference_mode()
def prompt_logprobs(model: Any, prompt: Sequence[int]) -> list[float]:
    """Return the natural log-probability of each token of prompt but the first, in float32.

    Raises FloatingPointError if one of them is not a number.
    """
    ids = torch.tensor([list(prompt)], device=model.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, :-1]
    found: list[float] = []
    for rows, following in zip(
        torch.split(logits, _ROWS), torch.split(ids[0, 1:], _ROWS), strict=True
    ):
        logprobs = torch.log_softmax(rows.float(), dim=-1)
        found += logprobs.gather(1, following[:, None].to(rows.device))[:, 0].tolist()
    if not all(value <= 0 for value in found):
        raise FloatingPointError("a log-probability of the prompt is not a number")
    return found


@torch.inference_mode()
def embeddings(model: Any, texts: Sequence[Sequence[int]]) -> Iterator[list[float]]:
    """Yield for each text the mean of its last hidden states, scaled to length 1, in float32.

    Shorter texts are padded at their end and masked, so that no text sees its padding.
    """
    for start in range(0, len(texts), _TEXTS):
        batch = [torch.tensor(list(text)) for text in texts[start : start + _TEXTS]]
        ids = pad_sequence(batch, batch_first=True).to(model.device)
        mask = pad_sequence([torch.ones_like(text) for text in batch], batch_first=True)
        mask = mask.to(model.device)
        output = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        hidden: Tensor = output.last_hidden_state.float()  # (B, T, H)
        weights = mask[..., None].to(hidden.device)
        means = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        yield from functional.normalize(means, dim=-1).tolist()
