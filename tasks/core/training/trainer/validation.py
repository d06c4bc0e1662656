"""The loss on the validation share: which rows, how often, and its mean over learned tokens.

The invariant: the figure is the sum of all learned tokens' losses divided by their number, over all
processes, so that neither micro batch, batching nor the number of processes changes it.
"""

import math
from collections.abc import Iterator

import torch
import torch.distributed as dist

from tasks.core.conversation.examples.labels import IGNORED

MOST_TIMES = 10
_COST_SHARE = 0.1
_FORWARD_SHARE = 0.5  # of a training step's arithmetic; a third with gradient checkpointing


def validation_interval(steps: int, trained_tokens: float, validation_tokens: int) -> int:
    """Return how many steps lie between two validations; the last step always has one.

    At most ten validations per training, and no more than a tenth of its arithmetic: a validation
    token costs at most half of a training token. trained_tokens: of the whole training;
    validation_tokens: of one validation.
    """
    affordable = _COST_SHARE * trained_tokens / (_FORWARD_SHARE * max(1, validation_tokens))
    return math.ceil(steps / max(1, min(MOST_TIMES, int(affordable))))


def rows_of_process(
    rows: int, micro_batch_size: int, rank: int, processes: int
) -> Iterator[tuple[range, bool]]:
    """Yield the rows of each of a process's micro batches, and whether they count.

    All processes get the same number, because under ZeRO-3 each forward pass needs all processes:
    one without rows left gets the first row again, which does not count.
    """
    for start in range(0, rows, micro_batch_size * processes):
        first = start + rank * micro_batch_size
        mine = range(first, min(first + micro_batch_size, rows))
        yield (mine, True) if mine else (range(1), False)


class LossSum:
    """Losses of learned tokens, summed in float64 over micro batches and processes."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, mean_loss: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a micro batch by the mean loss of its learned tokens, and its labels (B, T)."""
        tokens = (labels[:, 1:] != IGNORED).sum()
        if tokens:  # the mean of none is NaN
            self._sums += torch.stack([mean_loss.double() * tokens, tokens.double()])

    def mean(self) -> tuple[float, int]:
        """Return the mean loss in nats, and the number of tokens. Every process must call this."""
        if dist.is_initialized():
            dist.all_reduce(self._sums)
        nats, tokens = self._sums.tolist()
        return nats / tokens if tokens else math.nan, int(tokens)
