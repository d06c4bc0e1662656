"""What an adapter does to one weight of a model: by which of its tensors, and in which sense.

The values alone; the arithmetic is `low_rank`'s.
"""

from dataclasses import dataclass
from typing import Literal

BaseChange = Literal["pissa", "olora"]
"""What was taken off the base's weights before the training began, by the name of its method."""


@dataclass(frozen=True)
class Part:
    """Which of the experts of a joined parameter a weight is, and its rows of the output."""

    expert: int
    rows: tuple[int, int]


@dataclass(frozen=True)
class LowRank:
    """The update scale * B @ A of a weight; transposed where the weight is stored (in, out).

    A (experts * r, in) and B (out, r * experts): more than one expert for parameters (experts, out,
    in) of `target_parameters`, and for a part of one that the file keeps by itself.
    """

    a: str
    b: str
    scale: float
    transposed: bool
    magnitude: str | None = None
    """DoRA's norms (out), which the rows of the sum get."""
    base: BaseChange | None = None
    experts: int = 1
    part: Part | None = None
