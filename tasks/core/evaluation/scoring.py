"""Log-likelihoods of the assistant's turns, and the distance between models on them.

One conversation at a time, in one pass over each model. Predictions of earlier models are not in
memory: their rows are read from files (`predictions`), a few positions at a time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tasks.core.conversation.examples.labels import IGNORED, Example
from tasks.core.evaluation.figures import Role
from tasks.core.evaluation.predictions import (
    PredictionReader,
    StoredPredictions,
    logprobs_of,
    pieces,
)


@dataclass
class Distance:
    """Sums over all measured tokens, from an earlier model to this one."""

    kl_nats: float = 0.0
    top1_agreements: int = 0

    def add(self, before: Tensor, after: Tensor) -> None:
        """Add the rows of log-probabilities (T, V) of both models at the same tokens."""
        self.top1_agreements += int((before.argmax(1) == after.argmax(1)).sum())
        nats = (before - after).mul_(before.exp()).sum(1)  # at most a vocabulary in fp32
        self.kl_nats += nats.sum(dtype=torch.float64).item()


@dataclass
class Score:
    """Sums over all measured tokens of one model, and its distance from each earlier model.

    `nats` has those of each example that was read, by its index.
    """

    tokens: int = 0
    nll_nats: float = 0.0
    nats: dict[int, float] = field(default_factory=dict)
    wall_s: float = 0.0
    distances: dict[Role, Distance] = field(default_factory=dict)

    def add(
        self,
        log_probs: Tensor,
        targets: Tensor,
        start: int,
        earlier: Mapping[Role, tuple[Tensor, nn.Linear | None]],
    ) -> None:
        """Add the likelihood of targets (T,) by log_probs (T, V), and the distance to each model.

        start is the index of the first token among all measured ones; earlier has rows and head.
        """
        wanted = targets[:, None].to(log_probs.device)
        self.nll_nats -= log_probs.gather(1, wanted).sum(dtype=torch.float64).item()
        for role, distance in self.distances.items():
            rows, head = earlier[role]
            theirs = logprobs_of(rows[start : start + len(targets)], head)
            distance.add(theirs.to(log_probs.device), log_probs)


@torch.inference_mode()
def score(
    reader: PredictionReader,
    examples: Sequence[Example],
    before: Mapping[Role, StoredPredictions],
    keep: StoredPredictions | None = None,
    on_conversation: Callable[[int], None] | None = None,
) -> Score:
    """Return the sums over the learned tokens of all examples.

    The model's predictions are written to `keep`, if given, for later comparisons. For each model
    in `before`, KL(before || model) and the agreement of the top-1 tokens are summed too.
    `on_conversation` is called with the number of each finished example, from 1.
    """
    earlier = {role: (each.open(), each.head) for role, each in before.items()}
    own = None if keep is None else keep.open()
    sums = Score(distances={role: Distance() for role in before})
    started = time.monotonic()
    for number, example in enumerate(examples, start=1):
        if learned_tokens([example]) == 0:  # not even its first answer fits
            continue
        rows, targets = reader.read(example)
        if own is not None:
            own[sums.tokens : sums.tokens + len(targets)] = rows.cpu()
        nll_nats_before = sums.nll_nats
        for piece in pieces(len(targets)):
            log_probs = logprobs_of(rows[piece], reader.head)
            sums.add(log_probs, targets[piece], sums.tokens + piece.start, earlier)
        sums.tokens += len(targets)
        sums.nats[number - 1] = sums.nll_nats - nll_nats_before
        if on_conversation is not None:
            on_conversation(number)
    sums.wall_s = time.monotonic() - started
    return sums


def learned_tokens(examples: Sequence[Example]) -> int:
    """Return how many tokens `score` measures; the first token has nothing to predict it from."""
    return sum(sum(label != IGNORED for label in example.labels[1:]) for example in examples)
