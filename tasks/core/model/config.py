"""config.json of a model: read in one way, and what follows from it without transformers.

The invariant: a value that the configuration lacks is the default of the model's class in
transformers, never simply False.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.files.foreign import JsonObject, read_json_object

CONFIG_FILE = "config.json"
_ADAPTER = "adapter_config.json"
OUR_MODEL_TYPE = "kawan_usaha_llama"
"""The model_type of an edited model, whose code is this project's."""

_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length")
"""The names, by model family, of the number of positions that a model was trained with."""

# fmt: off
TIED_BY_DEFAULT = frozenset((
    "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "biogpt", "blenderbot",
    "blenderbot-small", "bloom", "camembert", "cohere", "cohere2", "cohere2_moe",
    "cohere_compass_text", "cpmant", "ctrl", "data2vec-text", "electra", "ernie", "ernie4_5",
    "ernie4_5_moe", "falcon", "falcon_mamba", "gemma", "gemma2", "gemma3", "gemma3_text",
    "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gemma4_unified",
    "gemma4_unified_assistant", "gemma4_unified_text", "got_ocr2", "gpt-sw3", "gpt2",
    "gpt_bigcode", "gpt_neo", "gpt_neox_japanese", "granite_swa", "jetmoe", "lfm2", "lfm2_moe",
    "lfm3", "mamba", "marian", "mbart", "megatron-bert", "minicpm3", "modernbert-decoder",
    "moss_transcribe_diarize", "mpt", "mvp", "openai-gpt", "opt", "pegasus", "plbart",
    "prophetnet", "recurrent_gemma", "roberta", "roberta-prelayernorm", "roc_bert", "roformer",
    "smollm3", "starcoder2", "trocr", "vaultgemma", "whisper", "xglm", "xlm", "xlm-roberta",
    "xlm-roberta-xl", "xlnet", "xmod", "youtu", "zamba", "zamba2", "zaya",
))
# fmt: on
"""The model_types of transformers' causal models that tie the embeddings by default.

A test compares the list with the installed transformers.
"""


def read_config(directory: Path) -> JsonObject:
    """Return config.json. Raises NotAModel when it is missing or not a JSON object."""
    try:
        return read_json_object(directory / CONFIG_FILE)
    except FileNotFoundError as error:
        raise without_config((path.name for path in _beside(directory)), directory) from error


def without_config(names: Iterable[str], where: object) -> NotAModel:
    """Return the error for a directory or repository with these files but without config.json.

    Most often people pass a LoRA adapter in place of its model.
    """
    names = set(names)
    if any(name.rpartition("/")[2] == _ADAPTER for name in names):
        return NotAModel(
            "This is a LoRA adapter, not a model.",
            where=where,
            expected=f"a directory or repository with a {CONFIG_FILE}",
            found=_ADAPTER,
            next_step="`kawan-usaha fuse MODEL ADAPTER OUT` fuses the adapter into the model that "
            "it was trained on.",
        )
    return NotAModel(
        f"There is no {CONFIG_FILE}.",
        where=where,
        found=", ".join(sorted(names)[:6]) or None,
        next_step="Use the directory or repository that holds the model itself.",
    )


def _beside(directory: Path) -> list[Path]:
    """Return the JSON files in the directory, and where `finetune` puts adapters in it."""
    return [path for place in (directory, directory / "adapter") for path in place.glob("*.json")]


def has_foreign_code(config: Mapping[str, object]) -> bool:
    """Return whether a model brings code that is not this project's.

    Its model_type may still be that of a built-in class, and then says nothing about its weights.
    """
    return bool(config.get("auto_map")) and config.get("model_type") != OUR_MODEL_TYPE


def ties_embeddings(config: Mapping[str, object]) -> bool:
    """Return whether the model's output head is its input embedding.

    Decided as in transformers: by the configuration, else by the default of the class.
    """
    if "tie_word_embeddings" in config:
        return bool(config["tie_word_embeddings"])
    return str(config.get("model_type")) in TIED_BY_DEFAULT


def text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """Return the text model's part of a configuration: all of it, unless it has several parts."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) else config


def rope_of(config: Mapping[str, object]) -> tuple[Mapping[str, object], ...]:
    """Return the RoPE parameters of a configuration: none, one mapping, or one per layer type.

    transformers 5 writes `rope_parameters`, earlier versions `rope_scaling`.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return ()
    inner = tuple(part for part in rope.values() if isinstance(part, Mapping))
    return inner or (rope,)


def scaled_rope(
    rope: Mapping[str, object], rope_type: str, factor: float, positions: int
) -> dict[str, object]:
    """Return RoPE parameters with a scaling of transformers' definition.

    positions: the number that the model was trained with.
    """
    scaled = {**rope, "rope_type": rope_type, "factor": factor}
    if rope_type == "yarn":
        scaled["original_max_position_embeddings"] = positions
    return scaled


def with_rope_scaling(config: Mapping[str, object], rope_type: str, factor: float) -> JsonObject:
    """Return the configuration after an edit that scales the RoPE."""
    rope = next(iter(rope_of(config)), {})
    positions = _count(config.get(_POSITIONS[0])) or 0
    return {**config, "rope_parameters": scaled_rope(rope, rope_type, factor, positions)}


def context_tokens(config: Mapping[str, object]) -> int | None:
    """Return how many tokens a model can attend to, with RoPE scaling; None if unknown.

    A scaling multiplies the trained length by its factor. That length is
    `original_max_position_embeddings` for the types that have it (yarn, llama3), whose
    `max_position_embeddings` may be the scaled one; for the others it is
    `max_position_embeddings`, which dynamic scaling computes with and engines multiply.
    """
    config = text_config(config)
    positions = next((found for name in _POSITIONS if (found := _count(config.get(name)))), None)
    if positions is None:
        return None
    original = config.get("original_max_position_embeddings")
    lengths = [positions]
    for rope in rope_of(config):
        trained = _count(rope.get("original_max_position_embeddings", original)) or positions
        factor = rope.get("factor")
        if isinstance(factor, int | float) and math.isfinite(factor):
            lengths.append(int(trained * factor))
    return max(lengths)


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and value >= 1 else None
