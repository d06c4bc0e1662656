"""The loss of direct preference optimization, and the figures measured with it.

Source: Rafailov et al., arXiv:2305.18290, equation 7. A test compares loss and gradient with TRL's.
The invariant: whatever the type of the weights, log-probabilities are taken and summed in fp32, in
an order that is the same in every run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy, logsigmoid

from tasks.core.conversation.examples.labels import IGNORED
from tasks.core.training.model.learned_head import learned_only


@dataclass(frozen=True)
class PairLosses:
    """For each pair, (B,), fp32: the loss, and the margin by which the chosen answer is preferred.

    The margin is beta times the log-probability that the chosen answer has gained over the
    reference, minus that of the rejected one, in nats; 0 before the first step.
    """

    losses: torch.Tensor
    margins: torch.Tensor


def answer_log_probs(
    model: nn.Module, batch: Mapping[str, torch.Tensor], *, takes_positions: bool
) -> torch.Tensor:
    """Return the summed log-probability of each row's learned tokens, (rows,), fp32.

    takes_positions: the model computes the logits of those tokens alone (`learned_head`).
    """
    inputs = learned_only(batch)
    learned, following = inputs.pop("logits_to_keep"), inputs.pop("shift_labels")
    del inputs["labels"]
    if takes_positions:
        logits = model(**inputs, logits_to_keep=learned).logits
    else:
        logits = model(**inputs, attention_mask=batch["attention_mask"]).logits[learned]
    tokens = -cross_entropy(logits.float(), following, reduction="none")
    # Not by index_add: on a GPU its order of additions varies from run to run.
    rows = torch.split(tokens, learned.sum(dim=1).tolist())
    return torch.stack([row.sum() for row in rows])


def pair_losses(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> PairLosses:
    """Return -log sigmoid(beta * ((chosen - rejected) - (its reference - the other's))).

    policy, reference (2B,): log-probabilities of the chosen answers, then of the rejected ones.
    """
    chosen, rejected = (policy - reference).chunk(2)
    margins = beta * (chosen - rejected)
    return PairLosses(-logsigmoid(margins), margins.detach())


class PairSums:
    """Figures of pairs, summed in float64 over micro batches and processes."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(5, dtype=torch.float64, device=device)

    def add(self, found: PairLosses, labels: torch.Tensor) -> None:
        """Add a micro batch of pairs, and its labels (2B, T)."""
        preferred = (found.margins > 0).double().sum()
        pairs, tokens = torch.tensor(len(found.losses)), (labels[:, 1:] != IGNORED).sum()
        parts = (found.losses.sum(), found.margins.sum(), preferred, pairs, tokens)
        self._sums += torch.stack([each.to(self._sums) for each in parts])

    def means(self) -> tuple[dict[str, float], int]:
        """Return mean loss, mean margin and share preferred, and the number of learned tokens.

        Every process must call this.
        """
        if dist.is_initialized():
            dist.all_reduce(self._sums)
        loss, margin, preferred, pairs, tokens = self._sums.tolist()
        named = {"loss": loss, "margin": margin, "preferred": preferred}
        return {name: value / pairs for name, value in named.items()}, int(tokens)
