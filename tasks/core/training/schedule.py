"""The learning rate of each step, as a share of its peak.

transformers' schedules but for the warm-up, whose first step has a rate of zero there: the longest
conversations, which come first, would teach nothing in the first epoch.
Source of this warm-up: nanoGPT, train.py, get_lr.
"""

import math
from typing import Literal

SCHEDULE = "a warm-up from above zero"
"""Which rates the steps have: to be renamed with every change of them."""


def rate_at(
    step: int,
    *,
    kind: Literal["cosine", "linear", "constant"],
    warmup_steps: int,
    total_steps: int,
) -> float:
    """Return the share of the peak that a step is taken with, the first one being 0.

    It rises by as much with every step of the warm-up, and has its peak in the step after it. A
    constant rate has no warm-up.
    """
    if kind == "constant":
        return 1.0
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    fallen = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(0.0, 1.0 - fallen if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * fallen)))
