"""Whether two sets of weights look like base and delta, judged from a small sample of values.

Headers cannot tell a delta from a model: names and shapes are the same. The values can:

- A model's normalization weights are of the order of one; a delta's, the difference of two such,
  are near zero. So the ratio of their norms reveals swapped arguments. (The sum would be the same,
  but configuration and tokenizer would come from the wrong side.)
- A fine-tuned model points in the direction of its base (cosine of their matrices near one); the
  difference of the two does not. So the cosine reveals a delta that is already a complete model.

Reads at most 16 normalization vectors and 32 KiB from the middle of 12 matrices per side. Passes
models without such tensors. A base that already contains the delta cannot be detected: base + delta
looks like a base.
"""

import math
from collections.abc import Iterable

import torch

from tasks.core.errors import DeltaMismatch
from tasks.core.weights.index import ModelIndex, TensorEntry
from tasks.core.weights.pairing import BaseAndDelta
from tasks.core.weights.reader import TensorReader

_NORMS, _MATRICES = 16, 12
_SAMPLE_ELEMENTS = 16_384
_SWAPPED_RATIO = 0.25  # a true pair lies above 1, swapped sides below 0.05
_MERGED_COSINE = 0.9  # a fine-tuned model and its base lie above 0.99, a true pair near 0


def require_base_and_delta(base: ModelIndex, delta: ModelIndex, pair: BaseAndDelta) -> None:
    """Raise DeltaMismatch when the sides look swapped, or the delta is a complete model."""
    with TensorReader(base) as of_base, TensorReader(delta) as of_delta:
        norms = _spread((e for e in pair.base.values() if _is_norm(e)), _NORMS)
        base_norm, delta_norm = (_typical(reader, norms) for reader in (of_base, of_delta))
        matrices = _spread((e for e in pair.base.values() if len(e.shape) > 1), _MATRICES)
        cosine = _typical_cosine(of_base, of_delta, matrices)
    where = f"{base.directory} + {delta.directory}"
    if base_norm < _SWAPPED_RATIO * delta_norm:
        raise DeltaMismatch(
            "Base and delta seem to be swapped.",
            where=where,
            expected="normalization weights near zero in the delta, not in the base",
            found=f"median {base_norm:.3g} in the base, {delta_norm:.3g} in the delta",
            next_step="Swap the two arguments.",
        )
    if cosine > _MERGED_COSINE:
        raise DeltaMismatch(
            "The delta is already a complete model: its weights point in the base's direction.",
            where=where,
            expected=f"a cosine of base and delta below {_MERGED_COSINE}",
            found=f"{cosine:.3f}",
            next_step="Use it without merging, or pass the delta itself.",
        )


def _is_norm(entry: TensorEntry) -> bool:
    return len(entry.shape) == 1 and entry.name.endswith("norm.weight")


def _spread(entries: Iterable[TensorEntry], limit: int) -> list[TensorEntry]:
    """Return at most limit entries, evenly spaced from first to last."""
    found = list(entries)
    if len(found) <= limit:
        return found
    return [found[round(i * (len(found) - 1) / (limit - 1))] for i in range(limit)]


def _sample(reader: TensorReader, name: str) -> torch.Tensor:
    """Return up to _SAMPLE_ELEMENTS from the middle: the first rows may be padding."""
    count = math.prod(reader.index.tensors[name].shape)
    start = max(0, (count - _SAMPLE_ELEMENTS) // 2)
    return reader.read(name, start, min(start + _SAMPLE_ELEMENTS, count)).to(torch.float64)


def _typical(reader: TensorReader, entries: list[TensorEntry]) -> float:
    """Return the median of the sampled absolute values; 0 where there are none."""
    if not entries:
        return 0.0
    return float(torch.cat([_sample(reader, entry.name) for entry in entries]).abs().median())


def _typical_cosine(base: TensorReader, delta: TensorReader, entries: list[TensorEntry]) -> float:
    """Return the median of the matrices' cosines, so that no single outlier decides."""
    cosines = [
        torch.cosine_similarity(_sample(base, entry.name), _sample(delta, entry.name), dim=0)
        for entry in entries
    ]
    return float(torch.stack(cosines).median()) if cosines else 0.0
