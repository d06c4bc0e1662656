"""The rates of a training beside those of transformers."""

from itertools import pairwise

import pytest
import torch
from transformers import get_scheduler

from tasks.core.training.trainer.schedule import rate_at

KINDS = ("cosine", "linear", "constant")


def rates(kind: str, warmup: int, total: int) -> list[float]:
    return [
        rate_at(step, kind=kind, warmup_steps=warmup, total_steps=total) for step in range(total)
    ]


def of_transformers(kind: str, warmup: int, total: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = get_scheduler(kind, optimizer, warmup, total)
    found = []
    for _ in range(total):
        found += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup", [0, 3])
def test_after_the_warm_up_the_rates_are_those_of_transformers(kind: str, warmup: int) -> None:
    expected = of_transformers(kind, warmup, 50)
    # The cosine is summed in another order there.
    assert rates(kind, warmup, 50)[warmup:] == pytest.approx(expected[warmup:], abs=1e-15)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_the_warm_up_rises_evenly_from_above_zero_to_the_peak(kind: str) -> None:
    assert of_transformers(kind, 3, 50)[0] == 0.0
    rising = rates(kind, 3, 50)[:4]
    assert rising == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (1, 1), (1, 2), (2, 2), (2, 40)])
def test_no_step_learns_nothing(kind: str, warmup: int, total: int) -> None:
    found = rates(kind, warmup, total)
    assert min(found) > 0.0
    assert all(a >= b for a, b in pairwise(found[warmup:]))
