"""The tensors of a PEFT LoRA adapter by the module that they are for, from their names.

Covers the names that PEFT 0.21 gives: lora_A and lora_B of linear layers and embeddings, DoRA's
magnitudes, and the nested layers of `target_parameters`; and what an update of one weight is made
of. Reads headers only; the arithmetic is in `low_rank`.

The invariant: a tensor with `lora_` in its name belongs to one of the layers, or the adapter is
refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tasks.core.errors import AdapterMismatch
from tasks.core.weights.adapter_refusals import ELSEWHERE
from tasks.core.weights.index import ModelIndex, TensorEntry

PREFIX = "base_model.model."
BASE_LAYER = ".base_layer"
AGAIN = "Save the adapter again with PEFT's save_pretrained, or use another checkpoint of it."
OTHER_MODEL = "Use the model that the adapter was trained on."

BaseChange = Literal["pissa", "olora"]
"""What was subtracted from the base's weights before the training, by the name of the method."""

_PARTS = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_embedding_A": "embedding_a",
    "lora_embedding_B": "embedding_b",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
_NAMED = re.compile(
    r"\.lora_([AB]\.(?P<linear>[^.]+)\.(weight|bias)|embedding_[AB]\.(?P<other>[^.]+)"
    r"|magnitude_vector\.(?!weight$)(?P<vector>[^.]+)(\.weight)?)$"
)
_BIAS = "lora_B.bias"


@dataclass(frozen=True)
class ExpertSlice:
    """The part of a parameter of joined experts that one weight is: an expert, and its rows."""

    expert: int
    rows: tuple[int, int]


@dataclass(frozen=True)
class LowRankUpdate:
    """The update scale * B @ A of one weight; transposed where the weight is stored (in, out).

    A (experts * r, in) and B (out, r * experts), by their names in the adapter: more than one
    expert for parameters (experts, out, in) of `target_parameters`, and for a slice of one that the
    model's files store separately.
    """

    a: str
    b: str
    scale: float
    transposed: bool
    magnitude: str | None = None
    """DoRA's magnitudes (out), to which the rows of the sum are scaled."""
    base: BaseChange | None = None
    experts: int = 1
    part: ExpertSlice | None = None


@dataclass(frozen=True)
class Layer:
    """A (r, in), B (out, r) and DoRA's magnitude (out) of one module.

    depth is the number of PEFT layers around it, where several parameters of a module are targeted.
    """

    module: str
    depth: int
    a: TensorEntry
    b: TensorEntry
    embedding: bool
    magnitude: TensorEntry | None


def read_layers(index: ModelIndex) -> dict[str, list[Layer]]:
    """Return an adapter's layers by the names of the model's modules, the outermost first.

    Raises AdapterMismatch for files from which PEFT would load nothing, and for a layer without A
    or B.
    """
    require_saved_by_peft(index)
    found: dict[tuple[str, int], dict[str, TensorEntry]] = {}
    for name, entry in index.tensors.items():
        stem, _, part = name.removeprefix(PREFIX).partition(".lora_")
        if not part:
            continue
        module = stem.replace(BASE_LAYER, "")
        tensors = found.setdefault((module, stem.count(BASE_LAYER)), {})
        if tensors.setdefault(_PARTS[f"lora_{part}"], entry) is not entry:
            raise wrong(
                index, name, "The adapter has this tensor twice.", "two names for it", AGAIN
            )
    layers: dict[str, list[Layer]] = {}
    for (module, depth), tensors in sorted(found.items()):
        layers.setdefault(module, []).append(_layer(index, module, depth, tensors))
    return layers


def wrong(index: ModelIndex, name: str, what: str, found: str, next_step: str) -> AdapterMismatch:
    """Return an error about one tensor of an adapter, or one weight that it changes."""
    where = f"{index.directory}: {name}"
    return AdapterMismatch(what, where=where, found=found, next_step=next_step)


def misfit(index: ModelIndex, name: str, reason: str) -> AdapterMismatch:
    """Return an error about a tensor that does not fit the model."""
    return wrong(
        index, name, "A tensor of the adapter does not fit the model.", reason, OTHER_MODEL
    )


def _layer(index: ModelIndex, module: str, depth: int, tensors: Mapping[str, TensorEntry]) -> Layer:
    embedding = "a" not in tensors and "embedding_a" in tensors
    sides = ("embedding_a", "embedding_b") if embedding else ("a", "b")
    a, b = (tensors.get(side) for side in sides)
    if a is None or b is None or len(tensors.keys() - {"magnitude"}) > 2:
        name = f"{PREFIX}{module}.lora_A"
        raise wrong(index, name, "The adapter is not complete.", "either A or B is missing", AGAIN)
    return Layer(module, depth, a, b, embedding, tensors.get("magnitude"))


def require_saved_by_peft(index: ModelIndex) -> None:
    """Raise AdapterMismatch for files from which PEFT would load nothing."""
    if not index.tensors:
        raise AdapterMismatch(
            "The adapter's file holds no tensors, so fusing it would change nothing.",
            where=index.directory,
            next_step=AGAIN,
        )
    for name, entry in index.tensors.items():
        if ".lora_" in name:
            _require_layer_name(index, name, entry)
        if not name.startswith(PREFIX):
            raise wrong(
                index,
                name,
                "The tensors do not have the names that PEFT gives them.",
                f"its name does not begin with {PREFIX}",
                f"Save the adapter with save_pretrained, or put {PREFIX} before each name.",
            )


def _require_layer_name(index: ModelIndex, name: str, entry: TensorEntry) -> None:
    if 0 in entry.shape:
        raise wrong(
            index,
            name,
            "The adapter was saved under DeepSpeed ZeRO-3 without gathering its weights: the file "
            "holds empty tensors.",
            f"shape {list(entry.shape)}",
            "Recover the weights from a checkpoint with DeepSpeed's zero_to_fp32.py, or train with "
            "stage3_gather_16bit_weights_on_model_save.",
        )
    if match := _NAMED.search(name):
        adapter = match["linear"] or match["other"] or match["vector"]
        raise wrong(
            index,
            name,
            "The tensors' names include the adapter's name, which PEFT omits when it saves.",
            f"`.{adapter}` in the name",
            "Save the adapter with save_pretrained instead of saving the state_dict, or remove "
            f"`.{adapter}` from the names.",
        )
    part = f"lora_{name.partition('.lora_')[2]}"
    if part not in _PARTS:
        known = "a bias of B, trained by lora_bias" if part == _BIAS else "there is no rule for it"
        raise wrong(index, name, "A tensor of the adapter cannot be fused.", known, ELSEWHERE)
