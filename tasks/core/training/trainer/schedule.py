"""The learning rate of each step, as a share of its peak.

transformers' schedules, except for the warm-up: theirs starts at a rate of zero, so that nothing
would be learned in the first step, from the longest conversations, which come first.
Source of this warm-up: nanoGPT, train.py, get_lr.
"""

import math
from typing import Literal

SCHEDULE = "a warm-up from above zero"
"""The name of the schedule: change it with every change of the rates."""


def rate_at(
    step: int,
    *,
    kind: Literal["cosine", "linear", "constant"],
    warmup_steps: int,
    total_steps: int,
) -> float:
    """Return a step's share of the peak rate; the first step is 0.

    It rises linearly over the warm-up and peaks in the step after it. A constant rate has no
    warm-up.
    """
    if kind == "constant":
        return 1.0
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    fallen = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(0.0, 1.0 - fallen if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * fallen)))
