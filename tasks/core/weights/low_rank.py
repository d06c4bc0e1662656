"""The arithmetic of low-rank updates: rows of B @ A, and what PiSSA and OLoRA start from.

Tensors in, tensors out; which of them belong together is decided in `adapter`. The same operations
in the same order as in peft/tuners/lora/layer.py (0.21.2).
"""

import math
from collections.abc import Callable

import torch

from tasks.core.weights.adapter_tensors import BaseChange, LowRankUpdate

Factors = tuple[torch.Tensor, torch.Tensor]
"""A (r, in) and B (out, r)."""

ScratchMemory = Callable[[int, torch.dtype], torch.Tensor]
"""Called with a number of elements and their type; returns that many, flat and uninitialized."""


def low_rank_elements(
    update: LowRankUpdate, factors: Factors, start: int, stop: int, memory: ScratchMemory
) -> torch.Tensor:
    """Return elements start to stop of scale * B @ A (or of its transpose), flat, in their type.

    A (r, in); B (out, r); the weight (out, in), or (in, out) where update.transposed; with experts
    before each. Source: LoRA, arXiv:2106.09685, section 4.1.
    """
    height, width = _stored_shape(update, factors)
    first, last = start // width, math.ceil(stop / width)
    rows = memory((last - first) * width, factors[0].dtype).view(-1, width)
    for number in range(first // height, math.ceil(last / height)):
        left, right = _sides(update, factors, number)
        above = number * height
        begin, end = max(first - above, 0), min(last - above, height)
        torch.mm(left[begin:end], right, out=rows[above + begin - first : above + end - first])
    return rows.mul_(update.scale).view(-1)[start - first * width : stop - first * width]


def subtracted_factors(
    change: BaseChange, weight: torch.Tensor, rank: int, scale: float
) -> Factors:
    """Return A and B whose product was subtracted from weight (out, in; fp32) before training.

    pissa: the largest r singular values and vectors (arXiv:2404.02948), by the whole SVD; olora:
    the first r columns of Q and rows of R, times scale (arXiv:2406.01775). Takes about five times
    the weight in memory.
    """
    if change == "olora":
        q, r = torch.linalg.qr(weight)
        return r[:rank].contiguous(), scale * q[:, :rank]
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = torch.diag(torch.sqrt(values[:rank] / scale))
    return root @ right[:rank], scale * (left[:, :rank] @ root)


def _stored_shape(update: LowRankUpdate, factors: Factors) -> tuple[int, int]:
    a, b = factors
    out = b.shape[0] if update.part is None else update.part.rows[1] - update.part.rows[0]
    return (a.shape[1], out) if update.transposed else (out, a.shape[1])


def _sides(
    update: LowRankUpdate, factors: Factors, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two matrices to multiply for the number-th expert of a weight.

    PEFT stores the rows of A expert by expert, the columns of B interleaved.
    """
    a, b = factors
    rank = a.shape[0] // update.experts
    expert = number if update.part is None else update.part.expert
    a, b = a[expert * rank : (expert + 1) * rank], b[:, expert :: update.experts]
    if update.part is not None:
        b = b[slice(*update.part.rows)]
    return (a.T, b.T) if update.transposed else (b, a)
