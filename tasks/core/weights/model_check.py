"""Whether a directory holds a complete model: the one check, from headers and small files alone.

For every stage that reads or returns a model. Reads no weights; 13B are checked in milliseconds.
Knows the tensors of the LLaMA family by name (`llama_layout`); of other families embedding and
layers. Does not know which class transformers uses.

The invariant: a model that passes has each file that its index names, at its size, none of them a
pointer or a web page, and exactly the tensors that its configuration promises.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.model.config import CONFIG_FILE, ties_embeddings
from tasks.core.weights.companion_kinds import ADAPTER_CONFIG
from tasks.core.weights.index import ModelIndex, read_index
from tasks.core.weights.llama_layout import HEAD, RECOMPUTED, promised_tensors
from tasks.core.weights.small_files_check import check_small_files

_EMBEDDING = re.compile(
    r"^(?:model\.(?:decoder\.)?|transformer\.|gpt_neox\.)?"
    r"(?:embed_tokens|wte|word_embeddings|embed_in)\.weight$"
)
"""The language model's own embedding; a vision or speech part has one of another size."""
_PACKED = (".qweight", ".qzeros", ".g_idx", ".weight_packed", ".absmax", ".SCB")
_LAYER = re.compile(r"^(?:model\.layers|transformer\.h|gpt_neox\.layers|h)\.(\d+)\.")
_SHOWN = 6


def check_model(directory: Path, *, in_place: bool = False) -> ModelIndex:
    """Return the index of a complete model.

    in_place: the directory will be loaded as it is, so an adapter inside it, which would be loaded
    too, is refused. Raises NotAModel, with everything that is wrong with the weights;
    CorruptWeights and UnsafeWeights as `read_index`.
    """
    config = check_small_files(directory)
    if in_place:
        require_no_adapter_inside(directory)
    index = read_index(directory)
    require_promised(config, index)
    return index


def has_adapter(directory: Path) -> bool:
    """Return whether the directory holds an adapter, which a loader would apply to its model."""
    return (directory / ADAPTER_CONFIG).is_file()


def require_no_adapter_inside(directory: Path) -> None:
    """Raise NotAModel where a loader would apply an adapter in the same directory to the model."""
    if has_adapter(directory):
        raise NotAModel(
            "The directory holds a model and an adapter, which a loader would apply to the model.",
            where=directory,
            found=ADAPTER_CONFIG,
            next_step=f"Move {ADAPTER_CONFIG} and adapter_model.* to their own directory; "
            "`kawan-usaha fuse MODEL ADAPTER OUT` makes one model of both.",
        )


def require_promised(config: Mapping[str, object], index: ModelIndex) -> None:
    """Raise NotAModel unless the weights are those that the configuration promises."""
    problems = tuple(weight_problems(config, index))
    if problems:
        more = len(problems) - _SHOWN
        raise NotAModel(
            "The weights do not match config.json.",
            where=index.directory,
            expected="exactly the tensors that the configuration describes, in their shapes",
            found="; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else ""),
            next_step="Use config.json and all weight files from the same source and revision.",
        )


def require_unquantized(config: Mapping[str, object], index: ModelIndex) -> None:
    """Raise NotAModel for a quantized model, whose packed integers cannot be edited or cast."""
    packed = _packed(index)
    if config.get("quantization_config") or packed:
        raise NotAModel(
            "The model is quantized: its weights cannot be added, cast or edited.",
            where=index.directory / CONFIG_FILE,
            found="quantization_config" if config.get("quantization_config") else packed,
            next_step="Use the model in 16 or 32 bits.",
        )


def weight_problems(config: Mapping[str, object], index: ModelIndex) -> Iterator[str]:
    """Yield how the tensors on the disk differ from those that the configuration promises."""
    if not config.get("model_type") and not config.get("auto_map"):
        yield f"{CONFIG_FILE} has no model_type, so no loader knows the class"
    if config.get("quantization_config"):
        return  # names and shapes depend on the method
    if packed := _packed(index):
        yield f"{packed} holds packed integers, but {CONFIG_FILE} has no quantization_config"
        return
    promised = promised_tensors(config)
    found = {name: entry.shape for name, entry in index.tensors.items()}
    if promised is None:
        yield from _general_problems(config, found)
        return
    optional = {HEAD} if ties_embeddings(config) else set()
    for name in sorted(promised.keys() - found.keys()):
        yield f"{name} is missing"
    for name in sorted(found.keys() - promised.keys() - optional):
        if not name.endswith(RECOMPUTED):
            yield f"{name} belongs to no module"
    for name in sorted(promised.keys() & found.keys()):
        if promised[name] != found[name]:
            yield f"{name} has shape {list(found[name])} instead of {list(promised[name])}"


def _general_problems(
    config: Mapping[str, object], found: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    """Yield mismatches of vocabulary and layers, by names that most families share."""
    vocab = config.get("vocab_size")
    for name, shape in found.items():
        if _EMBEDDING.match(name) and isinstance(vocab, int) and shape[:1] != (vocab,):
            yield f"{name} has {shape[0] if shape else 0} rows, but vocab_size is {vocab}"
    there = {int(match[1]) for name in found if (match := _LAYER.match(name))}
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    if not there or not isinstance(layers, int):
        return
    extra = config.get("num_nextn_predict_layers")
    allowed = layers + (extra if isinstance(extra, int) else 0)
    if missing := sorted(set(range(layers)) - there):
        yield f"layer {missing[0]} of {layers} is missing"
    if max(there) >= allowed:
        yield f"there is a layer {max(there)}, but {CONFIG_FILE} has {layers} layers"


def _packed(index: ModelIndex) -> str | None:
    return next((name for name in index.tensors if name.endswith(_PACKED)), None)
