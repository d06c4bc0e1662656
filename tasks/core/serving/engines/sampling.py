"""Choosing a request's next token from the model's scores.

The order is vLLM's: bias and penalties, then temperature, min_p, top_k, top_p, which transformers
computes. Each request has its own random number generator, so that a seed gives the same answer
whatever else is in the batch.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tasks.core.serving.engines.request import Completion

_NO_IDS: Any = None
"""Passed to the warpers for the tokens so far, which they ignore."""


class Sampler:
    """Chooses the tokens of one answer."""

    def __init__(self, wanted: Completion, device: torch.device) -> None:
        self._wanted = wanted
        self._warpers = _warpers(wanted)
        self._bias = _bias(wanted, device)
        self._prompt = wanted.prompt
        self._answer: Counter[int] = Counter()
        self._random: torch.Generator | None = None
        if wanted.seed is not None:
            self._random = torch.Generator(device).manual_seed(wanted.seed)
        self.plain = wanted.greedy and not self._changes_scores()
        """Whether it chooses the model's highest score, unchanged."""

    def choose(self, scores: Tensor) -> int:
        """Return the next token. scores: the model's, (vocabulary,), float32; not modified."""
        scores = self._penalized(scores.clone())[None]
        if self._wanted.greedy:
            token = int(scores.argmax())
        else:
            probabilities = self._warpers(_NO_IDS, scores).softmax(dim=-1)
            token = int(torch.multinomial(probabilities[0], 1, generator=self._random))
        self._answer[token] += 1
        return token

    def _changes_scores(self) -> bool:
        wanted = self._wanted
        penalties = (wanted.presence_penalty, wanted.frequency_penalty)
        return bool(wanted.logit_bias or any(penalties) or wanted.repetition_penalty != 1)

    def _penalized(self, scores: Tensor) -> Tensor:
        """Return scores after bias and penalties; the repetition penalty includes the prompt."""
        wanted = self._wanted
        if self._bias is not None:
            scores = scores.index_add(0, *self._bias)
        if self._answer:
            ids = torch.tensor(list(self._answer), device=scores.device)
            counts = torch.tensor(list(self._answer.values()), device=scores.device)
            penalty = wanted.presence_penalty + wanted.frequency_penalty * counts
            scores = scores.index_add(0, ids, -penalty.to(scores.dtype))
        if wanted.repetition_penalty != 1:
            seen = torch.tensor([[*self._prompt, *self._answer]], device=scores.device)
            penalize = RepetitionPenaltyLogitsProcessor(wanted.repetition_penalty)
            scores = penalize(seen, scores[None])[0]
        return scores


def _warpers(wanted: Completion) -> LogitsProcessorList:
    warpers = LogitsProcessorList()
    if wanted.greedy:
        return warpers
    if wanted.temperature != 1:
        warpers.append(TemperatureLogitsWarper(float(wanted.temperature)))
    if wanted.min_p > 0:
        warpers.append(MinPLogitsWarper(float(wanted.min_p)))
    if wanted.top_k > 0:
        warpers.append(TopKLogitsWarper(wanted.top_k))
    if wanted.top_p < 1:
        warpers.append(TopPLogitsWarper(float(wanted.top_p)))
    return warpers


def _bias(wanted: Completion, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if not wanted.logit_bias:
        return None
    ids = torch.tensor([int(token) for token in wanted.logit_bias], device=device)
    return ids, torch.tensor(list(wanted.logit_bias.values()), device=device, dtype=torch.float32)
