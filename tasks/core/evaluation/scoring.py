"""Log-likelihoods of the assistant's words, and the distance between two models on them.

One conversation at a time, so that no padding takes part. The distribution of the model before is
read from a memory-mapped file instead of a second model in memory: (tokens, vocabulary) float32.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.core.conversation.labels import IGNORED, Example
from tasks.core.files import require_room


@dataclass(frozen=True)
class Score:
    """Sums over all measured tokens of one model; the last two stay 0 without a model before."""

    tokens: int
    nll_nats: float
    wall_s: float
    kl_nats: float
    top1_agreements: int


@dataclass(frozen=True)
class Distributions:
    """Log-probabilities (tokens, vocabulary) of one model in a file, float32, memory-mapped."""

    path: Path
    tokens: int
    vocabulary: int

    def open(self) -> Tensor:
        """Return the tensor; what is written to it is in the file."""
        size = self.tokens * self.vocabulary
        flat = torch.from_file(str(self.path), shared=True, size=size, dtype=torch.float32)
        return flat.view(self.tokens, self.vocabulary)

    @classmethod
    def create(cls, path: Path, tokens: int, vocabulary: int) -> "Distributions":
        """Return an empty file of this shape. Raises DiskFull when there is no room for it."""
        size_bytes = 4 * tokens * vocabulary
        require_room(path.parent, size_bytes)
        with path.open("wb") as file:
            file.truncate(size_bytes)
        return cls(path, tokens, vocabulary)


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    examples: Sequence[Example],
    before: Distributions | None,
    keep: Distributions,
) -> Score:
    """Return the sums over the learned tokens of all examples.

    The model's own log-probabilities are written to `keep`, for the next comparison. With `before`,
    KL(before || model) and the agreement of the likeliest tokens are summed too.
    """
    earlier, own = before.open() if before is not None else None, keep.open()
    tokens, nll, kl, agreements = 0, 0.0, 0.0, 0
    started = time.monotonic()
    for example in examples:
        log_probs, targets = _learned(model, example)  # (T, V), (T,)
        rows = slice(tokens, tokens + len(targets))
        nll -= log_probs.gather(1, targets[:, None]).double().sum().item()
        if earlier is not None:
            there = earlier[rows].to(log_probs.device)
            kl += (there.exp() * (there - log_probs)).double().sum().item()
            agreements += int((there.argmax(1) == log_probs.argmax(1)).sum())
        own[rows] = log_probs.cpu()
        tokens = rows.stop
    return Score(tokens, nll, time.monotonic() - started, kl, agreements)


def learned_tokens(examples: Sequence[Example]) -> int:
    """Return how many tokens `score` measures: the first of a text is foretold by nothing."""
    return sum(sum(label != IGNORED for label in example.labels[1:]) for example in examples)


def _learned(model: PreTrainedModel, example: Example) -> tuple[Tensor, Tensor]:
    """Return log-probabilities (T, V) float32 and targets (T,) at the learned tokens."""
    input_ids = torch.tensor([example.input_ids], device=model.device)
    targets = torch.tensor(example.labels[1:], device=model.device)
    logits = model(input_ids=input_ids, use_cache=False).logits[0, :-1]
    learned = targets != IGNORED
    return logits[learned].float().log_softmax(-1), targets[learned]
