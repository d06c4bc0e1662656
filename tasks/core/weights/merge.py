"""Delta addition: target = base + delta, equal to FastChat's apply_delta to the bit.

Covers the plan (all checks, from configurations, headers and a small sample) and the merge itself.
Source: fastchat/model/apply_delta.py (0.2.36), which loads both models as float16 and adds them in
float16. The rules for tensors that need one stand in `pairing`.

The invariant: nothing is written before the plan holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tasks.core.errors import DeltaMismatch
from tasks.core.files.digests import FileDigest
from tasks.core.model.template_record import TEMPLATE_RECORD
from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Dtype
from tasks.core.weights.companions import (
    Companions,
    companion_files,
    config_with,
    is_of_tokenizer,
    tokenizer_files,
)
from tasks.core.weights.dtypes import STORED, torch_dtype
from tasks.core.weights.index import ModelIndex, TensorEntry, read_index
from tasks.core.weights.layout import MAX_SHARD_BYTES, Layout, Piece, TensorSpec, plan_layout
from tasks.core.weights.likeness import require_base_and_delta
from tasks.core.weights.model_check import (
    check_small_files,
    require_promised,
    require_unquantized,
)
from tasks.core.weights.pairing import Pair, pair
from tasks.core.weights.produce import Work, produce
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.result import WrittenModel
from tasks.core.weights.same_bytes import same_place
from tasks.core.weights.stream import PieceFunction

Contents = Mapping[str, FileDigest]
"""What the files of a directory hold, by their names."""


@dataclass(frozen=True)
class MergePlan:
    """A merge that is known to fit, and what it will read and write."""

    base: ModelIndex
    delta: ModelIndex
    dtype: Dtype
    layout: Layout
    companions: Companions
    dropped: tuple[str, ...]
    bytes_in: int

    @property
    def bytes_out(self) -> int:
        """The bytes of the weight files that will be written."""
        return self.layout.size_bytes


def plan_merge(
    base: Path,
    delta: Path,
    dtype: Dtype = "float16",
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    values: Literal["there", "to come"] = "there",
) -> MergePlan:
    """Return the plan of base + delta; reads headers, configurations and some kilobytes of values.

    While the values are to come it tells what will be read and written, but not that the two
    belong together; None can be told where it takes values: ValuesNeeded.

    Raises NotAModel, CorruptWeights or UnsafeWeights for a side that is unusable by itself, and
    DeltaMismatch when the two do not belong together.
    """
    config, delta_config = check_small_files(base), check_small_files(delta)
    _require_one_architecture(config.get("model_type"), delta_config.get("model_type"), delta)
    base_index, delta_index = read_index(base), read_index(delta)
    require_unquantized(config, base_index)
    require_unquantized(delta_config, delta_index)
    if values == "to come":
        tensors = pair(base_index, delta_index, config, _same_without_values)
    else:
        tensors = pair(base_index, delta_index, config)
        require_base_and_delta(base_index, delta_index, tensors)
    require_promised(config, base_index)
    stored = STORED[dtype]
    specs = [TensorSpec(entry.name, stored, entry.shape) for entry in tensors.base.values()]
    return MergePlan(
        base=base_index,
        delta=delta_index,
        dtype=dtype,
        layout=plan_layout(specs, max_shard_bytes),
        companions=_companions(base, delta, config_with(config, dtype, tensors.vocab_size)),
        dropped=tensors.dropped,
        bytes_in=_bytes_in(tensors),
    )


def merge(
    base: Path,
    delta: Path,
    out: Path,
    *,
    dtype: Dtype = "float16",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    threads: int | None = None,
    on_progress: OnProgress = silent,
    contents: tuple[Contents, Contents] | None = None,
    finished: Contents | None = None,
) -> WrittenModel:
    """Write base + delta into the directory out, which may hold a killed attempt, and return it.

    The sum is taken in dtype, to which both sides are cast first. on_progress counts bytes of the
    result. contents has the digests of base's and delta's files, where they are known; finished
    those of shards that `merge_ahead` has written. Raises what plan_merge raises, CorruptWeights
    when the sum holds NaN or infinity, and DiskFull.
    """
    plan = plan_merge(base, delta, dtype, max_shard_bytes=max_shard_bytes)
    return produce(
        work_of(plan, contents),
        [TensorReader(index) for index in (plan.base, plan.delta)],
        sum_in(torch_dtype(STORED[dtype])),
        plan.companions,
        out,
        threads=threads,
        on_progress=on_progress,
        finished=finished,
    )


def work_of(plan: MergePlan, contents: tuple[Contents, Contents] | None) -> Work:
    """Return what a merge computes from what."""
    return Work("merge", (plan.base, plan.delta), plan.layout, plan.dtype, contents)


def sum_in(dtype: torch.dtype) -> PieceFunction:
    """Return a piece function that casts base and delta to dtype and adds them in dtype."""

    def add(_: Piece, base: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        return base.to(dtype).add_(delta.to(dtype))

    return add


class ValuesNeeded(Exception):
    """What is to be known takes values of tensors that are not there yet."""


def _same_without_values(index: ModelIndex, one: TensorEntry, other: TensorEntry) -> bool:
    if (one.dtype, one.shape) == (other.dtype, other.shape) and not same_place(one, other):
        raise ValuesNeeded(f"{index.directory}: {one.name}, {other.name}")
    return (one.dtype, one.shape) == (other.dtype, other.shape)


def _require_one_architecture(base: object, delta: object, where: Path) -> None:
    if base != delta:
        raise DeltaMismatch(
            "Base and delta are models of different kinds.",
            where=where / "config.json",
            expected=f"model_type {base}, as the base",
            found=delta,
            next_step="Take the delta that was made for this base.",
        )


def _companions(base: Path, delta: Path, config: bytes) -> Companions:
    """Return what goes with the base, but for its tokenizer and template, which are the delta's."""
    of_base = companion_files(base).items()
    of_delta = tokenizer_files(delta)
    if (delta / TEMPLATE_RECORD).is_file():
        of_delta[TEMPLATE_RECORD] = delta / TEMPLATE_RECORD
    return {
        **{n: p for n, p in of_base if not is_of_tokenizer(n) and n != TEMPLATE_RECORD},
        **of_delta,
        "config.json": config,
    }


def _bytes_in(tensors: Pair) -> int:
    return sum(e.nbytes for side in (tensors.base, tensors.delta) for e in side.values())
