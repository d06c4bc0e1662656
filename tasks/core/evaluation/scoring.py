"""Log-likelihoods of the assistant's words, and the distance between models on them.

One conversation at a time, so that no padding takes part, and no logits for what stands before its
first answer. The distributions of a model before are read from a memory-mapped file instead of a
second model in memory: (tokens, vocabulary) float32.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.core.conversation.labels import IGNORED, Example
from tasks.core.evaluation.figures import Role
from tasks.core.files import require_room


@dataclass
class Distance:
    """Sums over all measured tokens, from a model before to this one."""

    kl_nats: float = 0.0
    top1_agreements: int = 0

    def add(self, before: Tensor, after: Tensor) -> None:
        """Add the rows of log-probabilities (T, V) of both models at the same tokens."""
        self.kl_nats += (before.exp() * (before - after)).sum(dtype=torch.float64).item()
        self.top1_agreements += int((before.argmax(1) == after.argmax(1)).sum())


@dataclass
class Score:
    """Sums over all measured tokens of one model, and its distance to each model before."""

    tokens: int = 0
    nll_nats: float = 0.0
    wall_s: float = 0.0
    distances: dict[Role, Distance] = field(default_factory=dict)


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
    before: Mapping[Role, Distributions],
    keep: Distributions | None = None,
    on_conversation: Callable[[int], None] | None = None,
) -> Score:
    """Return the sums over the learned tokens of all examples.

    The model's own log-probabilities are written to `keep`, for later comparisons, if there are
    any. For each model in `before`, KL(before || model) and the agreement of the likeliest tokens
    are summed too. `on_conversation` gets the number of each example when it is done, from 1.
    """
    earlier = {role: distributions.open() for role, distributions in before.items()}
    own = None if keep is None else keep.open()
    sums = Score(distances={role: Distance() for role in before})
    started = time.monotonic()
    for number, example in enumerate(examples, start=1):
        if learned_tokens([example]) == 0:  # not even its first answer fits
            continue
        log_probs, targets = _learned(model, example)  # (T, V), (T,)
        rows = slice(sums.tokens, sums.tokens + len(targets))
        sums.nll_nats -= log_probs.gather(1, targets[:, None]).double().sum().item()
        for role, distance in sums.distances.items():
            distance.add(earlier[role][rows].to(log_probs.device), log_probs)
        if own is not None:
            own[rows] = log_probs.cpu()
        sums.tokens = rows.stop
        if on_conversation is not None:
            on_conversation(number)
    sums.wall_s = time.monotonic() - started
    return sums


def learned_tokens(examples: Sequence[Example]) -> int:
    """Return how many tokens `score` measures; the first token has nothing to predict it from."""
    return sum(sum(label != IGNORED for label in example.labels[1:]) for example in examples)


def _learned(model: PreTrainedModel, example: Example) -> tuple[Tensor, Tensor]:
    """Return log-probabilities (T, V) float32 and targets (T,) at the learned tokens."""
    input_ids = torch.tensor([example.input_ids], device=model.device)
    targets = torch.tensor(example.labels[1:], device=model.device)
    first = int((targets != IGNORED).nonzero()[0])
    logits = _logits_from(model, input_ids, first)[:-1]
    targets = targets[first:]
    learned = targets != IGNORED
    return logits[learned].float().log_softmax(-1), targets[learned]


def _logits_from(model: PreTrainedModel, input_ids: Tensor, first: int) -> Tensor:
    """Return the logits (T - first, V) of the positions from `first` on, on the model's device.

    A number of positions, not a mask of them: a model on several devices moves no mask along.
    """
    options: dict[str, int] = {}
    if "logits_to_keep" in inspect.signature(type(model).forward).parameters:
        options["logits_to_keep"] = input_ids.shape[1] - first
    logits: Tensor = model(input_ids=input_ids, use_cache=False, **options).logits[0]
    return logits if options else logits[first:]
