"""Delta addition: target = base + delta, bit for bit equal to FastChat's apply_delta.

Covers the plan (all checks, from configurations, headers and a small sample) and the merge itself.
Source: fastchat/model/apply_delta.py (0.2.36), which loads both models as float16 and adds them in
float16. Tensors that are special cases are described in `pairing`.

The invariant: nothing is written before all checks of the plan have passed.
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
from tasks.core.weights.companion_kinds import is_of_tokenizer
from tasks.core.weights.companions import Companions, companion_files, config_with, tokenizer_files
from tasks.core.weights.dtypes import STORED, torch_dtype
from tasks.core.weights.index import ModelIndex, TensorEntry, read_index
from tasks.core.weights.layout import MAX_SHARD_BYTES, Layout, TensorPiece, TensorSpec, plan_layout
from tasks.core.weights.likeness import require_base_and_delta
from tasks.core.weights.model_check import require_promised, require_unquantized
from tasks.core.weights.pairing import pair
from tasks.core.weights.produce import ProducedModel, WeightsWork, produce
from tasks.core.weights.reader import TensorReader, same_place
from tasks.core.weights.small_files_check import check_small_files
from tasks.core.weights.stream import PieceFunction

Contents = Mapping[str, FileDigest]
"""The digests of a directory's files, by their names."""


@dataclass(frozen=True)
class MergePlan:
    """A merge whose inputs fit together, and what it will read and write."""

    base: ModelIndex
    delta: ModelIndex
    dtype: Dtype
    layout: Layout
    companions: Companions


def plan_merge(
    base: Path,
    delta: Path,
    dtype: Dtype = "float16",
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    values: Literal["there", "to come"] = "there",
) -> MergePlan:
    """Return the plan of base + delta; reads headers, configurations and some kilobytes of values.

    While the values are still to come, the plan says what will be read and written, but nothing
    checks that the two belong together. Raises ValuesNeeded where even that takes values;
    NotAModel, CorruptWeights or UnsafeWeights for a side that is unusable by itself; DeltaMismatch
    when the two do not belong together.
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
    )


def merge_delta(
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
) -> ProducedModel:
    """Write base + delta into the directory out, resuming a killed attempt, and return it.

    Both sides are cast to dtype and then added. on_progress counts bytes of the result. contents:
    the digests of base's and delta's files, where they are known; finished: those of shards that
    `merge_ahead` wrote. Raises what plan_merge raises, CorruptWeights when the sum holds NaN or
    infinity, and DiskFull.
    """
    plan = plan_merge(base, delta, dtype, max_shard_bytes=max_shard_bytes)
    return produce(
        merge_work(plan, contents),
        [TensorReader(index) for index in (plan.base, plan.delta)],
        sum_in(torch_dtype(STORED[dtype])),
        plan.companions,
        out,
        threads=threads,
        on_progress=on_progress,
        finished=finished,
    )


def merge_work(plan: MergePlan, contents: tuple[Contents, Contents] | None) -> WeightsWork:
    """Return what the merge computes from which inputs."""
    return WeightsWork("merge", (plan.base, plan.delta), plan.layout, plan.dtype, contents)


def sum_in(dtype: torch.dtype) -> PieceFunction:
    """Return a piece function that casts base and delta to dtype and adds them in dtype."""

    def add(_: TensorPiece, base: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        return base.to(dtype).add_(delta.to(dtype))

    return add


class ValuesNeeded(Exception):
    """The answer depends on values of tensors that have not arrived yet."""


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
            next_step="Use the delta that was made for this base.",
        )


def _companions(base: Path, delta: Path, config: bytes) -> Companions:
    """Return the base's files, but with the tokenizer and template of the delta."""
    of_base = companion_files(base).items()
    of_delta = tokenizer_files(delta)
    if (delta / TEMPLATE_RECORD).is_file():
        of_delta[TEMPLATE_RECORD] = delta / TEMPLATE_RECORD
    return {
        **{n: p for n, p in of_base if not is_of_tokenizer(n) and n != TEMPLATE_RECORD},
        **of_delta,
        "config.json": config,
    }
