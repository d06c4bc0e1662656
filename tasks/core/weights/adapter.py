"""A PEFT LoRA adapter directory: what each of its tensors does to which weight of the model.

Covers the names that PEFT 0.21 gives to tensors: lora_A and lora_B of linear layers and embeddings,
biases, and modules that were trained whole. Reads headers only.

The invariant: every tensor of the adapter is used, and fits the weight that it is for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import AdapterMismatch
from tasks.core.weights.adapter_config import LoraConfig, read_lora_config
from tasks.core.weights.dtypes import FLOATS
from tasks.core.weights.index import ModelIndex, TensorEntry, read_adapter_index

_PREFIX = "base_model.model."
_PAIR = re.compile(r"^(?P<module>.+)\.lora_(embedding_)?(?P<side>[AB])(\.weight)?$")
_BASE_LAYER = ".base_layer."
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "lm_head.weight")


@dataclass(frozen=True)
class LowRank:
    """The update scale * B @ A of a weight; transposed where the weight is stored (in, out)."""

    a: str
    b: str
    scale: float
    transposed: bool


@dataclass(frozen=True)
class Adapter:
    """What an adapter does to a model, by the names of the model's weights."""

    index: ModelIndex
    low_rank: Mapping[str, LowRank]
    replaced: Mapping[str, str]
    """Weights that were trained whole (modules_to_save, bias), and the adapter's name for each."""


def read_adapter(directory: Path, model: ModelIndex, *, tied: bool) -> Adapter:
    """Return what the adapter in directory does to model, whose embeddings may be tied.

    Raises AdapterMismatch for a feature that cannot be fused, and for a tensor without its
    counterpart, of a wrong shape, or for a weight that the model does not have.
    """
    config = read_lora_config(directory)
    index = read_adapter_index(directory)
    pairs: dict[str, dict[str, TensorEntry]] = {}
    replaced: dict[str, str] = {}
    for name, entry in index.tensors.items():
        plain = name.removeprefix(_PREFIX)
        if plain == name:
            raise _misfit(index, name, f"its name does not begin with {_PREFIX}")
        if match := _PAIR.match(plain):
            pairs.setdefault(match["module"], {})[match["side"]] = entry
        elif "lora_" in plain:
            raise _misfit(index, name, "no rule for fusing it is known (DoRA, lora_bias, or newer)")
        else:
            weight = plain.replace(_BASE_LAYER, ".")
            _require_shape(index, name, model, weight, entry.shape)
            replaced[weight] = name
    low_rank = {f"{m}.weight": _low_rank(index, model, config, m) for m in pairs}
    touched = [weight for weight in (*low_rank, *replaced) if weight.endswith(_EMBEDDINGS)]
    if tied and touched:
        raise _misfit(index, touched[0], "the model ties its embeddings, so both ends would change")
    return Adapter(index, low_rank, replaced)


def _low_rank(index: ModelIndex, model: ModelIndex, config: LoraConfig, module: str) -> LowRank:
    a, b, embedding = _sides(index, module)
    rank = config.rank(module)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
        shapes = f"A is {list(a.shape)}, B is {list(b.shape)}"
        raise _misfit(index, a.name, f"rank {rank} is configured, but {shapes}")
    transposed = config.fan_in_fan_out or embedding
    shape = (a.shape[1], b.shape[0]) if transposed else (b.shape[0], a.shape[1])
    _require_shape(index, a.name, model, f"{module}.weight", shape)
    return LowRank(a.name, b.name, config.scale(module), transposed)


def _sides(index: ModelIndex, module: str) -> tuple[TensorEntry, TensorEntry, bool]:
    """Return A and B of a module, and whether it is an embedding."""
    stem = f"{_PREFIX}{module}.lora_"
    for form, embedding in (("{}.weight", False), ("embedding_{}", True)):
        a, b = (index.tensors.get(stem + form.format(side)) for side in "AB")
        if a and b:
            return a, b, embedding
    raise _misfit(index, stem + "A", "either A or B is missing")


def _require_shape(
    index: ModelIndex, name: str, model: ModelIndex, weight: str, shape: tuple[int, ...]
) -> None:
    target = model.tensors.get(weight)
    if target is None:
        raise _misfit(index, name, f"the model has no {weight}")
    if target.shape != shape:
        raise _misfit(index, name, f"it is for {list(shape)}, but {weight} is {list(target.shape)}")
    if target.dtype not in FLOATS:
        raise _misfit(
            index, name, f"{weight} is stored as {target.dtype}, which cannot be added to"
        )


def _misfit(index: ModelIndex, name: str, reason: str) -> AdapterMismatch:
    return AdapterMismatch(
        "A tensor of the adapter does not fit the model.",
        where=f"{index.directory}: {name}",
        found=reason,
        next_step="Use the model that the adapter was trained on.",
    )
