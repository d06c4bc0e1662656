"""Change of dtype: every floating-point weight is cast, everything else is copied."""

from pathlib import Path

import torch

from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Dtype
from tasks.core.weights.companions import companion_files, config_with
from tasks.core.weights.dtypes import FLOATS, STORED, torch_dtype
from tasks.core.weights.index import read_index
from tasks.core.weights.layout import MAX_SHARD_BYTES, TensorPiece, TensorSpec, plan_layout
from tasks.core.weights.model_check import require_unquantized
from tasks.core.weights.produce import ProducedModel, WeightsWork, produce
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.small_files_check import check_small_files


def convert_dtype(
    model: Path,
    out: Path,
    *,
    dtype: Dtype,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    threads: int | None = None,
    on_progress: OnProgress = silent,
) -> ProducedModel:
    """Write model as safetensors in dtype to the directory out, and return it.

    Integer and boolean tensors keep their type. Raises CorruptWeights, with the tensor's name, for
    a value that dtype cannot represent.
    """
    config, index = check_small_files(model), read_index(model)
    require_unquantized(config, index)
    specs = [
        TensorSpec(e.name, STORED[dtype] if e.dtype in FLOATS else e.dtype, e.shape)
        for e in index.tensors.values()
    ]
    return produce(
        WeightsWork("convert", (index,), plan_layout(specs, max_shard_bytes), parameters=dtype),
        [TensorReader(index)],
        _cast,
        {**companion_files(model), "config.json": config_with(config, dtype, None)},
        out,
        threads=threads,
        on_progress=on_progress,
    )


def _cast(piece: TensorPiece, source: torch.Tensor) -> torch.Tensor:
    return source.to(torch_dtype(piece.dtype))
