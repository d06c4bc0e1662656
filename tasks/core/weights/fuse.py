"""LoRA fusing: W + scale * B @ A for each weight that an adapter names, the rest carried over.

Covers linear layers, (in, out)-stored ones and embeddings, and weights that were trained whole.
Equal to PEFT's merge_and_unload within one rounding of the weight's dtype. Holds A and B of the
few weights in work, never the whole adapter.

The invariant: a tensor that the adapter does not name keeps its bits.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from tasks.core.progress import Report, silent
from tasks.core.weights.adapter import Adapter, LowRank, read_adapter
from tasks.core.weights.companions import all_but_weights, read_config, require_unquantized
from tasks.core.weights.index import ModelIndex, read_index
from tasks.core.weights.layout import MAX_SHARD_BYTES, Piece, TensorSpec, plan_layout
from tasks.core.weights.produce import Work, produce
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.result import WrittenModel
from tasks.core.weights.stream import PieceFunction

_LOADED_TENSORS = 16  # those of the few weights whose pieces are in work at the same time


def fuse(
    model: Path,
    adapter: Path,
    out: Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    threads: int | None = None,
    report: Report = silent,
) -> WrittenModel:
    """Write model with the PEFT adapter fused in into the directory out, and return it.

    Weights keep their dtype; every other file of the model is copied, code and chat template
    included. report counts bytes of the result. Raises AdapterMismatch for an adapter that does
    not fit or uses what cannot be fused, and what the reader and writer of weights raise.
    """
    config = read_config(model)
    require_unquantized(config, model)
    index = read_index(model)
    plan = read_adapter(adapter, index, tied=bool(config.get("tie_word_embeddings", False)))
    specs = [TensorSpec(e.name, e.dtype, e.shape) for e in index.tensors.values()]
    layout = plan_layout(specs, max_shard_bytes)
    how = repr((sorted(plan.low_rank.items()), sorted(plan.replaced.items())))
    with TensorReader(plan.index) as source:
        return produce(
            Work("fuse", (index, plan.index), layout, parameters=how),
            [TensorReader(index)],
            fused_with(plan, source, index),
            all_but_weights(index),
            out,
            threads=threads,
            report=report,
        )


def fused_with(adapter: Adapter, source: TensorReader, model: ModelIndex) -> PieceFunction:
    """Return a piece function that applies adapter, whose tensors source reads, to model."""
    load = lru_cache(maxsize=_LOADED_TENSORS)(lambda name: source.load(name).to(torch.float32))

    def fuse_piece(piece: Piece, weight: torch.Tensor) -> torch.Tensor:
        dtype, change = weight.dtype, None
        if update := adapter.low_rank.get(piece.name):
            change = low_rank_rows(update, load, piece, model.tensors[piece.name].shape[1])
        if trained := adapter.replaced.get(piece.name):
            # Only now: loading A and B has used this thread's buffer of the same reader.
            weight = source.read(trained, piece.start, piece.stop).to(dtype)
        return weight if change is None else change.add_(weight).to(dtype)

    return fuse_piece


def low_rank_rows(
    update: LowRank, load: Callable[[str], torch.Tensor], piece: Piece, width: int
) -> torch.Tensor:
    """Return a piece of scale * B @ A (or of its transpose) in fp32, flat.

    A (r, in); B (out, r); the weight (out, in), or (in, out) where update.transposed; width is the
    weight's row length. Source: LoRA, arXiv:2106.09685, section 4.1.
    """
    a, b = load(update.a), load(update.b)
    left, right = (a.T, b.T) if update.transposed else (b, a)
    first, last = piece.start // width, math.ceil(piece.stop / width)
    rows = (left[first:last] @ right).mul_(update.scale).reshape(-1)
    return rows[piece.start - first * width : piece.stop - first * width]
