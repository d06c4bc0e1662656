"""A PEFT LoRA adapter directory: which weight of the model each of its tensors changes, and how.

Covers linear layers and embeddings, plain or with DoRA's magnitudes, the parameters of
`target_parameters`, biases, and modules that were saved whole, including rows for added tokens.
Reads headers only. How a weight is stored is decided in `orientation`.

The invariant: every tensor of the adapter is used, and fits the weight that it is for; every module
that the configuration targets has its update.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import AdapterMismatch
from tasks.core.model.config import ties_embeddings
from tasks.core.weights.adapter_config import LoraConfig, read_lora_config
from tasks.core.weights.adapter_modules import Modules
from tasks.core.weights.adapter_parameters import TargetParameters, parameters_of
from tasks.core.weights.adapter_tensors import (
    AGAIN,
    BASE_LAYER,
    PREFIX,
    LowRankUpdate,
    misfit,
    read_layers,
    wrong,
)
from tasks.core.weights.dtypes import FLOATS
from tasks.core.weights.index import ModelIndex, TensorEntry, read_adapter_index

EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
"""The names that causal models give their input embedding."""
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Adapter:
    """The changes that an adapter makes to a model, by the names of the model's weights."""

    index: ModelIndex
    low_rank: Mapping[str, LowRankUpdate]
    replaced: Mapping[str, str]
    """Weights that were saved whole (modules_to_save, bias, resized embeddings), and the adapter's
    name for each."""

    def shape(self, entry: TensorEntry) -> tuple[int, ...]:
        """Return the shape that a weight of the model has in the result."""
        trained = self.replaced.get(entry.name)
        return entry.shape if trained is None else self.index.tensors[trained].shape


def read_adapter(directory: Path, model: ModelIndex, config: Mapping[str, object]) -> Adapter:
    """Return the changes that the adapter in directory makes to model, whose config.json is config.

    Raises AdapterMismatch, with cause and remedy, for a feature that cannot be fused, a file
    without tensors or without those of some modules, names or shapes that PEFT would not have
    saved, and a tensor that does not fit the model.
    """
    lora = read_lora_config(directory)
    return _AdapterReading(read_adapter_index(directory), lora, model, config).adapter()


@dataclass(frozen=True)
class _AdapterReading:
    """An adapter, the model that it is for, and both configurations."""

    index: ModelIndex
    lora: LoraConfig
    model: ModelIndex
    config: Mapping[str, object]

    def adapter(self) -> Adapter:
        layers = read_layers(self.index)
        replaced = {
            name.removeprefix(PREFIX).replace(f"{BASE_LAYER}.", "."): name
            for name in self.index.tensors
            if ".lora_" not in name
        }
        replaced = self._tied(replaced) if ties_embeddings(self.config) else replaced
        for weight, name in replaced.items():
            self._require_replacement(weight, self.index.tensors[name])
        shapes = {name: entry.shape for name, entry in self.model.tensors.items()}
        shapes |= {weight: self.index.tensors[name].shape for weight, name in replaced.items()}
        self._require_one_vocabulary(shapes)
        parameters = TargetParameters(self.lora, self.model, self.config)
        low_rank = parameters.updates(self.index, layers)
        modules = {module: found for module, found in layers.items() if module not in parameters}
        low_rank |= Modules(self.index, self.lora, self.model, self.config, shapes).updates(modules)
        for weight, update in low_rank.items():
            self._require_free(weight, update)
        self._require_complete(low_rank, replaced)
        return Adapter(self.index, low_rank, replaced)

    def _tied(self, replaced: Mapping[str, str]) -> dict[str, str]:
        """Return the replaced weights of a model that ties its embeddings.

        Input embedding and head are one weight. PEFT saves it under both names when tokens were
        added; it replaces the one that the model stores. A change to one of the two alone cannot be
        stored in a tied model.
        """
        from tasks.core.weights.reader import same_bytes  # needs torch

        ends = {name: found for name, found in replaced.items() if _is_end(name)}
        trained = [name for name in ends if self.lora.saves_whole(name.removesuffix(".weight"))]
        entries = [self.index.tensors[found] for found in ends.values()]
        embedding = next((found for name, found in ends.items() if not name.endswith(_HEAD)), None)
        if not ends:
            return dict(replaced)
        if trained or not all(same_bytes(self.index, entries[0], entry) for entry in entries):
            raise self._both_ends((trained or list(ends))[0])
        if embedding is None:
            raise self._both_ends(next(iter(ends)))
        stored = {name: embedding for name in self.model.tensors if _is_end(name)}
        return {**{n: found for n, found in replaced.items() if n not in ends}, **stored}

    def _require_free(self, weight: str, update: LowRankUpdate) -> None:
        """Raise AdapterMismatch for a weight to which no update can be added."""
        if ties_embeddings(self.config) and _is_end(weight):
            raise self._both_ends(weight)
        self._require_float(update.a, weight)

    def _require_replacement(self, weight: str, entry: TensorEntry) -> None:
        """Raise AdapterMismatch unless a whole weight fits; an embedding may have added rows."""
        target = self.model.tensors.get(weight)
        if target is None:
            raise self._misfit(entry.name, f"the model has no {weight}")
        grown = entry.shape[:1] > target.shape[:1] and entry.shape[1:] == target.shape[1:]
        shape = target.shape if not (grown and _is_end(weight)) else entry.shape
        if entry.shape != shape:
            raise self._misfit(
                entry.name, f"it is for {list(entry.shape)}, but {weight} is {list(shape)}"
            )
        self._require_float(entry.name, weight)

    def _require_one_vocabulary(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        rows = {name: shape[0] for name, shape in shapes.items() if shape and _is_end(name)}
        if len(set(rows.values())) > 1:
            raise self._wrong(
                min(rows, key=lambda name: rows[name]),
                "The adapter adds tokens to only one of input embedding and lm_head.",
                ", ".join(f"{name} has {count} rows" for name, count in rows.items()),
                "Save the adapter with save_embedding_layers=True.",
            )

    def _require_float(self, name: str, weight: str) -> None:
        dtype = self.model.tensors[weight].dtype
        if dtype not in FLOATS:
            raise self._wrong(
                name,
                "An update cannot be added to this weight of the model.",
                f"{weight} is stored as {dtype}",
                "Use the model in 16 or 32 bits.",
            )

    def _require_complete(
        self, low_rank: Mapping[str, LowRankUpdate], replaced: Mapping[str, str]
    ) -> None:
        """Raise AdapterMismatch when a module that the configuration names has no update."""
        missing = [m for m in self._modules(low_rank) if f"{m}.weight" not in low_rank]
        whole = [weight.rpartition(".")[0] for weight in replaced]
        missing += [
            name
            for name in self.lora.saved_whole
            if not any(self.lora.is_saved_as(name, module) for module in whole)
        ]
        if missing:
            raise AdapterMismatch(
                "The adapter is not complete: its file lacks weights for modules that its "
                "configuration names.",
                where=self.index.directory,
                expected="an update for each module of target_modules and modules_to_save",
                found=f"{len(missing)} without one, the first: {min(missing)}",
                next_step=AGAIN,
            )

    def _modules(self, low_rank: Mapping[str, LowRankUpdate]) -> list[str]:
        """Return the modules that target_modules names.

        Experts that transformers 5 joins are not modules there; they were modules in transformers
        4, and count where the adapter has updates for some of them.
        """
        experts = {weight for p in parameters_of(self.model) if p.joined for weight in p.weights}
        if any(low_rank[weight].part is None for weight in experts & low_rank.keys()):
            experts = set()
        names = (
            name.removesuffix(".weight")
            for name, entry in self.model.tensors.items()
            if len(entry.shape) == 2 and name.endswith(".weight") and name not in experts
        )
        return [name for name in names if self.lora.targets(name)]

    def _both_ends(self, weight: str) -> AdapterMismatch:
        return self._wrong(
            weight,
            "The adapter changes only one of the tied embeddings of the model.",
            "the model ties its embeddings, so both would change",
            "Fuse it with PEFT's merge_and_unload and save the model untied, or train without "
            "embed_tokens and lm_head.",
        )

    def _misfit(self, name: str, reason: str) -> AdapterMismatch:
        return misfit(self.index, name, reason)

    def _wrong(self, name: str, what: str, found: str, next_step: str) -> AdapterMismatch:
        return wrong(self.index, name, what, found, next_step)


def _is_end(weight: str) -> bool:
    return weight.endswith((*EMBEDDINGS, _HEAD))
