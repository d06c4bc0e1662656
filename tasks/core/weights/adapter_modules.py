"""The updates that an adapter makes to linear layers and embeddings, plain or with DoRA.

Covers whether A, B and magnitude fit, and the base that PiSSA and OLoRA trained against. How a
weight is stored is decided in `orientation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.weights.adapter_config import LoraConfig
from tasks.core.weights.adapter_refusals import CONVERT, ELSEWHERE
from tasks.core.weights.adapter_tensors import (
    AGAIN,
    BaseChange,
    Layer,
    LowRankUpdate,
    misfit,
    wrong,
)
from tasks.core.weights.index import ModelIndex, TensorEntry
from tasks.core.weights.orientation import Matrix, Orientation

_SAME_CHECKPOINT = "Use adapter_config.json and the weights from the same checkpoint."


@dataclass(frozen=True)
class Modules:
    """An adapter and its model; shapes has each weight's shape after whole weights are replaced."""

    index: ModelIndex
    lora: LoraConfig
    model: ModelIndex
    config: Mapping[str, object]
    shapes: Mapping[str, tuple[int, ...]]

    def updates(self, layers: Mapping[str, list[Layer]]) -> dict[str, LowRankUpdate]:
        """Return the updates of the modules, by the names of the model's weights.

        Raises AdapterMismatch for a layer that is incomplete or does not fit the model.
        """
        for module, found in layers.items():
            for layer in found:
                self._require_plain(module, layer)
        matrices = {
            module: Matrix(self.shapes[f"{module}.weight"], (layer.b.shape[0], layer.a.shape[1]))
            for module, (layer,) in layers.items()
            if not layer.embedding
        }
        orientation = Orientation(self.config, matrices, flag=self.lora.fan_in_fan_out)
        orientation.require_sense(self.index.directory)
        updates = {}
        for module, (layer,) in layers.items():
            turned = layer.embedding or orientation.transposed(module, self.index.directory)
            updates[f"{module}.weight"] = self._update(module, layer, turned)
        return updates

    def _update(self, module: str, layer: Layer, turned: bool) -> LowRankUpdate:
        weight, a, b = f"{module}.weight", layer.a, layer.b
        shape = (a.shape[1], b.shape[0]) if turned else (b.shape[0], a.shape[1])
        if shape != self.shapes[weight]:
            raise misfit(
                self.index,
                a.name,
                f"it is for {list(shape)}, but {weight} is {list(self.shapes[weight])}",
            )
        # PEFT initializes embeddings the usual way, whatever init_lora_weights says.
        base = None if layer.embedding else self.lora.base_change
        if base is not None:
            self._require_known_base(weight, base, turned)
        magnitude = None if layer.magnitude is None else layer.magnitude.name
        scale = self.lora.scale(module)
        return LowRankUpdate(a.name, b.name, scale, turned, magnitude=magnitude, base=base)

    def _require_plain(self, module: str, layer: Layer) -> None:
        """Raise AdapterMismatch unless a layer is complete and for a weight that the model has."""
        weight = f"{module}.weight"
        if weight not in self.model.tensors:
            raise misfit(self.index, layer.a.name, f"the model has no {weight}")
        if layer.depth:
            raise wrong(
                self.index,
                layer.a.name,
                "A tensor of the adapter cannot be fused.",
                "a layer within a layer, for a module that target_parameters does not name",
                ELSEWHERE,
            )
        self._require_rank(module, layer.a, layer.b)
        self._require_magnitude(layer)

    def _require_magnitude(self, layer: Layer) -> None:
        """Raise AdapterMismatch unless DoRA layers, and only they, have a magnitude."""
        found, out = layer.magnitude, layer.b.shape[0]
        if self.lora.use_dora and found is None:
            raise wrong(
                self.index,
                layer.b.name,
                "The adapter is not complete.",
                "use_dora is true, but this tensor has no lora_magnitude_vector",
                AGAIN,
            )
        if found is not None and not self.lora.use_dora:
            raise wrong(
                self.index,
                found.name,
                "The adapter's configuration and its weights do not belong together.",
                "a DoRA magnitude, but use_dora is false",
                _SAME_CHECKPOINT,
            )
        if found is not None and found.shape != (out,):
            raise misfit(self.index, found.name, f"it is {list(found.shape)}, but B has {out} rows")

    def _require_known_base(self, weight: str, base: BaseChange, turned: bool) -> None:
        """Raise AdapterMismatch where PEFT itself cannot have trained this."""
        dtype = self.model.tensors[weight].dtype
        reason = f"{weight} is stored as {dtype}; {base} starts in 16 or 32 bits"
        if base == "olora" and turned:
            reason = f"{weight} is stored (in, out), for which PEFT's OLoRA does not work"
        elif dtype != "F64":
            return
        raise wrong(
            self.index,
            weight,
            "What the training subtracted from this weight cannot be recomputed.",
            reason,
            CONVERT,
        )

    def _require_rank(self, module: str, a: TensorEntry, b: TensorEntry) -> None:
        rank = self.lora.rank(module)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise wrong(
                self.index,
                a.name,
                "The adapter's configuration and its weights do not belong together.",
                f"rank {rank} is configured, but A is {list(a.shape)}, B is {list(b.shape)}",
                _SAME_CHECKPOINT,
            )
