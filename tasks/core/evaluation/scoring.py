"""Log-likelihoods of the assistant's words, and the distance between models on them.

One conversation at a time, in one pass over each model. What the models before expect is not in
memory: their rows are read from files (`expected`), a few positions at a time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tasks.core.conversation.examples.labels import IGNORED, Example
from tasks.core.evaluation.expected import Expected, Reader, log_probabilities, pieces
from tasks.core.evaluation.figures import Role


@dataclass
class Distance:
    """Sums over all measured tokens, from a model before to this one."""

    kl_nats: float = 0.0
    top1_agreements: int = 0

    def add(self, before: Tensor, after: Tensor) -> None:
        """Add the rows of log-probabilities (T, V) of both models at the same tokens."""
        self.top1_agreements += int((before.argmax(1) == after.argmax(1)).sum())
        nats = (before - after).mul_(before.exp()).sum(1)  # at most a vocabulary in fp32
        self.kl_nats += nats.sum(dtype=torch.float64).item()


@dataclass
class Score:
    """Sums over all measured tokens of one model, and its distance to each model before.

    `nats` are those of each example that was read, by its place among the examples.
    """

    tokens: int = 0
    nll_nats: float = 0.0
    nats: dict[int, float] = field(default_factory=dict)
    wall_s: float = 0.0
    distances: dict[Role, Distance] = field(default_factory=dict)


@torch.inference_mode()
def score(
    reader: Reader,
    examples: Sequence[Example],
    before: Mapping[Role, Expected],
    keep: Expected | None = None,
    on_conversation: Callable[[int], None] | None = None,
) -> Score:
    """Return the sums over the learned tokens of all examples.

    What the model expects is written to `keep`, for later comparisons, if there are any. For each
    model in `before`, KL(before || model) and the agreement of the likeliest tokens are summed too.
    `on_conversation` gets the number of each example when it is done, from 1.
    """
    earlier = {role: (each.open(), each.head) for role, each in before.items()}
    own = None if keep is None else keep.open()
    sums = Score(distances={role: Distance() for role in before})
    started = time.monotonic()
    for number, example in enumerate(examples, start=1):
        if learned_tokens([example]) == 0:  # not even its first answer fits
            continue
        rows, targets = reader.read(example)
        before_it = sums.nll_nats
        if own is not None:
            own[sums.tokens : sums.tokens + len(targets)] = rows.cpu()
        for piece in pieces(len(targets)):
            log_probs = log_probabilities(rows[piece], reader.head)
            wanted = targets[piece, None].to(log_probs.device)
            sums.nll_nats -= log_probs.gather(1, wanted).sum(dtype=torch.float64).item()
            place = slice(sums.tokens + piece.start, sums.tokens + piece.stop)
            for role, distance in sums.distances.items():
                theirs, head = earlier[role]
                distance.add(log_probabilities(theirs[place], head).to(log_probs.device), log_probs)
        sums.tokens += len(targets)
        sums.nats[number - 1] = sums.nll_nats - before_it
        if on_conversation is not None:
            on_conversation(number)
    sums.wall_s = time.monotonic() - started
    return sums


def learned_tokens(examples: Sequence[Example]) -> int:
    """Return how many tokens `score` measures; the first token has nothing to predict it from."""
    return sum(sum(label != IGNORED for label in example.labels[1:]) for example in examples)
