"""A chosen token with the model's log-probabilities, computed from its scores."""

import torch
from torch import Tensor

from tasks.core.serving.engines.generator import Token


def as_token(token: int, scores: Tensor, logprobs: int | None) -> Token:
    """Return a token with its log-probability and the `logprobs` highest; None: without any.

    scores: the model's, (vocabulary,), before temperature and the like.
    Raises FloatingPointError if they are not finite, so that the choice means nothing.
    """
    if not bool(torch.isfinite(scores.max())):
        raise FloatingPointError("the model's scores are not finite numbers")
    if logprobs is None:
        return Token(token)
    values = torch.log_softmax(scores.float(), dim=-1)
    highest = values.topk(logprobs)
    return Token(
        token,
        logprob=float(values[token]),
        likeliest=tuple(zip(highest.indices.tolist(), highest.values.tolist(), strict=True)),
    )
