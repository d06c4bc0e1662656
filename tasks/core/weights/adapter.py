"""A PEFT LoRA adapter directory: what each of its tensors does to which weight of the model.

Covers the names that PEFT 0.21 gives to tensors: lora_A and lora_B of linear layers and embeddings,
biases, and modules that were saved whole, with rows for added tokens too. Reads headers only. How a
weight is stored is decided in `orientation`.

The invariant: every tensor of the adapter is used, and fits the weight that it is for; every module
that the configuration targets has its update.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import AdapterMismatch
from tasks.core.model_config import ties_embeddings
from tasks.core.weights.adapter_config import LoraConfig, read_lora_config
from tasks.core.weights.dtypes import FLOATS
from tasks.core.weights.index import ModelIndex, TensorEntry, read_adapter_index
from tasks.core.weights.orientation import Matrix, Orientation

_PREFIX = "base_model.model."
_PAIR = re.compile(r"^(?P<module>.+)\.lora_(embedding_)?(?P<side>[AB])(\.weight)?$")
_NAMED = re.compile(
    r"\.lora_([AB]\.(?P<linear>[^.]+)\.(weight|bias)|embedding_[AB]\.(?P<other>[^.]+))$"
)
_BASE_LAYER = ".base_layer."
EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
"""The names that causal models give to their input embedding."""
_HEAD = "lm_head.weight"

_OTHER_MODEL = "Use the model that the adapter was trained on."
_AGAIN = "Save the adapter again with PEFT's save_pretrained, or take another checkpoint of it."


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
    """Weights that were saved whole (modules_to_save, bias, resized embeddings), and the adapter's
    name for each."""

    def shape(self, entry: TensorEntry) -> tuple[int, ...]:
        """Return the shape that a weight of the model has in the result."""
        trained = self.replaced.get(entry.name)
        return entry.shape if trained is None else self.index.tensors[trained].shape


def read_adapter(directory: Path, model: ModelIndex, config: Mapping[str, object]) -> Adapter:
    """Return what the adapter in directory does to model, whose config.json is config.

    Raises AdapterMismatch, with the cause and its remedy: for a feature that cannot be fused, a
    file without tensors or without those of some modules, names or shapes that PEFT would not have
    saved, and a tensor that does not fit the model.
    """
    lora = read_lora_config(directory)
    return _Reading(read_adapter_index(directory), lora, model, config).adapter()


@dataclass(frozen=True)
class _Reading:
    """An adapter, the model that it is for, and both configurations."""

    index: ModelIndex
    lora: LoraConfig
    model: ModelIndex
    config: Mapping[str, object]

    def adapter(self) -> Adapter:
        self._require_tensors_of_peft()
        names = {name: name.removeprefix(_PREFIX) for name in self.index.tensors}
        replaced = {
            plain.replace(_BASE_LAYER, "."): name
            for name, plain in names.items()
            if "lora_" not in plain
        }
        replaced = self._tied(replaced) if ties_embeddings(self.config) else replaced
        for weight, name in replaced.items():
            self._require_replacement(weight, self.index.tensors[name])
        shapes = {name: entry.shape for name, entry in self.model.tensors.items()}
        shapes |= {weight: self.index.tensors[name].shape for weight, name in replaced.items()}
        self._require_one_vocabulary(shapes)
        modules = {match["module"] for plain in names.values() if (match := _PAIR.match(plain))}
        low_rank = self._low_rank(sorted(modules), shapes)
        self._require_complete(low_rank, replaced)
        return Adapter(self.index, low_rank, replaced)

    def _require_tensors_of_peft(self) -> None:
        """Raise AdapterMismatch for files that PEFT itself would load as nothing, or not at all."""
        if not self.index.tensors:
            raise AdapterMismatch(
                "The adapter's file holds no tensor: fused, the model would be the base.",
                where=self.index.directory,
                next_step=_AGAIN,
            )
        for name, entry in self.index.tensors.items():
            if "lora_" in name and 0 in entry.shape:
                raise self._wrong(
                    name,
                    "The adapter was saved under DeepSpeed ZeRO-3 without its weights being "
                    "gathered: the file holds empty tensors.",
                    f"shape {list(entry.shape)}",
                    "Make the weights from the checkpoint with DeepSpeed's zero_to_fp32.py, or "
                    "train with stage3_gather_16bit_weights_on_model_save.",
                )
            if match := _NAMED.search(name):
                adapter = match["linear"] or match["other"]
                raise self._wrong(
                    name,
                    "The tensors carry the adapter's name, which PEFT leaves out when it saves.",
                    f"`.{adapter}` in the name",
                    "Save with save_pretrained instead of the state_dict itself, or take "
                    f"`.{adapter}` out of the names.",
                )
            if not name.startswith(_PREFIX):
                raise self._wrong(
                    name,
                    "The tensors do not have the names that PEFT saves.",
                    f"its name does not begin with {_PREFIX}",
                    f"Save with save_pretrained, or put {_PREFIX} before each name.",
                )
            if "lora_" in name and not _PAIR.match(name):
                raise self._wrong(
                    name,
                    "A tensor of the adapter cannot be fused here.",
                    "no rule for fusing it is known (DoRA, lora_bias, or newer)",
                    "Fuse it with PEFT's merge_and_unload.",
                )

    def _tied(self, replaced: Mapping[str, str]) -> dict[str, str]:
        """Return what replaces the weights of a model that ties its embeddings.

        Both ends are one weight. PEFT saves it, under both names, when tokens were added; then it
        goes where the model stores it. Trained at one end alone, no tied model can hold it.
        """
        from tasks.core.weights.same_bytes import same_bytes

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

    def _low_rank(
        self, modules: list[str], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, LowRank]:
        sides = {module: self._sides(module) for module in modules}
        for module in modules:
            if ties_embeddings(self.config) and _is_end(f"{module}.weight"):
                raise self._both_ends(f"{module}.weight")
        matrices = {
            module: Matrix(shapes[f"{module}.weight"], (b.shape[0], a.shape[1]))
            for module, (a, b, embedding) in sides.items()
            if not embedding and f"{module}.weight" in shapes
        }
        orientation = Orientation(self.config, matrices, flag=self.lora.fan_in_fan_out)
        orientation.require_sense(self.index.directory)
        found = {}
        for module, (a, b, embedding) in sides.items():
            weight = f"{module}.weight"
            if weight not in shapes:
                raise self._misfit(a.name, f"the model has no {weight}")
            transposed = embedding or orientation.transposed(module, self.index.directory)
            shape = (a.shape[1], b.shape[0]) if transposed else (b.shape[0], a.shape[1])
            self._require_fit(a.name, weight, shape, shapes[weight])
            found[weight] = LowRank(a.name, b.name, self.lora.scale(module), transposed)
        return found

    def _sides(self, module: str) -> tuple[TensorEntry, TensorEntry, bool]:
        """Return A and B of a module, and whether it is an embedding."""
        stem = f"{_PREFIX}{module}.lora_"
        for form, embedding in (("{}.weight", False), ("embedding_{}", True)):
            a, b = (self.index.tensors.get(stem + form.format(side)) for side in "AB")
            if a and b:
                self._require_rank(module, a, b)
                return a, b, embedding
        raise self._wrong(
            stem + "A", "The adapter is not complete.", "either A or B is missing", _AGAIN
        )

    def _require_rank(self, module: str, a: TensorEntry, b: TensorEntry) -> None:
        rank = self.lora.rank(module)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise self._wrong(
                a.name,
                "The adapter's configuration and its weights do not belong together.",
                f"rank {rank} is configured, but A is {list(a.shape)}, B is {list(b.shape)}",
                "Take adapter_config.json and the weights from the same checkpoint.",
            )

    def _require_replacement(self, weight: str, entry: TensorEntry) -> None:
        """Raise AdapterMismatch unless a whole weight fits; an embedding may have more rows."""
        target = self.model.tensors.get(weight)
        if target is None:
            raise self._misfit(entry.name, f"the model has no {weight}")
        grown = entry.shape[:1] > target.shape[:1] and entry.shape[1:] == target.shape[1:]
        shape = target.shape if not (grown and _is_end(weight)) else entry.shape
        self._require_fit(entry.name, weight, entry.shape, shape)

    def _require_one_vocabulary(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        rows = {name: shape[0] for name, shape in shapes.items() if shape and _is_end(name)}
        if len(set(rows.values())) > 1:
            raise self._wrong(
                min(rows, key=lambda name: rows[name]),
                "The adapter brings added tokens to one end of the model alone.",
                ", ".join(f"{name} has {count} rows" for name, count in rows.items()),
                "Save the adapter with save_embedding_layers=True.",
            )

    def _require_fit(
        self, name: str, weight: str, shape: tuple[int, ...], target: tuple[int, ...]
    ) -> None:
        dtype = self.model.tensors[weight].dtype
        if shape != target:
            raise self._misfit(name, f"it is for {list(shape)}, but {weight} is {list(target)}")
        if dtype not in FLOATS:
            raise self._wrong(
                name,
                "A weight of the model cannot be added to.",
                f"{weight} is stored as {dtype}",
                "Use the model in 16 or 32 bits.",
            )

    def _require_complete(
        self, low_rank: Mapping[str, LowRank], replaced: Mapping[str, str]
    ) -> None:
        """Raise AdapterMismatch when a module that the configuration names has nothing."""
        matrices = (name for name, entry in self.model.tensors.items() if len(entry.shape) == 2)
        modules = (name.removesuffix(".weight") for name in matrices if name.endswith(".weight"))
        missing = [m for m in modules if self.lora.targets(m) and f"{m}.weight" not in low_rank]
        whole = [weight.rpartition(".")[0] for weight in replaced]
        missing += [
            name
            for name in self.lora.saved_whole
            if not any(self.lora.is_saved_as(name, module) for module in whole)
        ]
        if missing:
            raise AdapterMismatch(
                "The adapter is not complete: modules that its configuration names have no "
                "weights in its file.",
                where=self.index.directory,
                expected="an update for each module of target_modules and modules_to_save",
                found=f"{len(missing)} weights have none, first {min(missing)}",
                next_step=_AGAIN,
            )

    def _both_ends(self, weight: str) -> AdapterMismatch:
        return self._wrong(
            weight,
            "The adapter changes one end of a model that ties its embeddings.",
            "the model ties its embeddings, so both ends would change",
            "Fuse it with PEFT's merge_and_unload and save the model untied, or train without "
            "embed_tokens and lm_head.",
        )

    def _misfit(self, name: str, reason: str) -> AdapterMismatch:
        return self._wrong(
            name, "A tensor of the adapter does not fit the model.", reason, _OTHER_MODEL
        )

    def _wrong(self, name: str, what: str, found: str, next_step: str) -> AdapterMismatch:
        where = f"{self.index.directory}: {name}"
        return AdapterMismatch(what, where=where, found=found, next_step=next_step)


def _is_end(weight: str) -> bool:
    return weight.endswith((*EMBEDDINGS, _HEAD))
