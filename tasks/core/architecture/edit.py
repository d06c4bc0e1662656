"""Write an edited model directory: the source's weights, with configuration and code for the edit.

The invariant: a loader with trust_remote_code computes what the recipe's edit says, and a loader
without it refuses the model.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tasks.core.architecture.directory import (
    ModelDirectory,
    build_on_meta,
    context_tokens_of,
    open_model,
)
from tasks.core.architecture.edits.kinds import ArchitectureEdit, architecture_edits
from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig
from tasks.core.architecture.writing import (
    WrittenDirectory,
    require_no_tokenizer_code,
    write_around,
)
from tasks.core.errors import NotAModel
from tasks.core.files.foreign import read_json_object, understood
from tasks.core.recipe import Edit
from tasks.core.weights.model_check import require_promised, require_unquantized
from tasks.core.weights.small_files_check import check_small_files

TRAVELLING_CODE = tuple(
    Path(__file__).with_name("remote") / name
    for name in ("configuration_kawan_usaha.py", "modeling_kawan_usaha.py")
)
AUTO_MAP = {
    "AutoConfig": "configuration_kawan_usaha.KawanUsahaConfig",
    "AutoModel": "modeling_kawan_usaha.KawanUsahaModel",
    "AutoModelForCausalLM": "modeling_kawan_usaha.KawanUsahaForCausalLM",
}
_UNLIMITED_TOKENS = 10**9  # tokenizers without a limit have 10^30


def edit_model(model: Path, edit: Edit, out: Path) -> WrittenDirectory:
    """Write the edited model into the existing directory `out` and return what it is made of.

    Weight files are shared with `model` (see `writing`), which is not changed; what a killed
    attempt left in `out` is replaced. Raises RecipeError when the edit does not fit the model,
    NotAModel when the model is not a stock LLaMA.
    """
    source = open_model(model)
    _require_stock(source)
    require_no_tokenizer_code(source)
    _require_whole(source)
    edits = architecture_edits(edit, source.config)
    with understood("the edited configuration", source.path / "config.json"):
        config = edited_config(source, edits)
    written = write_around(source, out, config, TRAVELLING_CODE)
    _lengthen_tokenizer(out, context_tokens_of(source.config), context_tokens_of(config))
    return written


def edited_config(source: ModelDirectory, edits: Iterable[ArchitectureEdit]) -> KawanUsahaConfig:
    """Return the configuration of the edited model."""
    stock = source.config.to_dict()
    for name in ("model_type", "transformers_version"):
        stock.pop(name, None)
    config = KawanUsahaConfig(**stock)
    config.architectures = ["KawanUsahaForCausalLM"]
    config.auto_map = dict(AUTO_MAP)
    for edit in edits:
        edit.apply_to_config(config)
    return config


def _require_stock(source: ModelDirectory) -> None:
    if source.edited:
        raise NotAModel(
            "The model is edited already.",
            where=source.path,
            found=f"model_type {source.config.model_type}",
            next_step="Edit the original model instead, with all changes in one edit.",
        )


def _require_whole(source: ModelDirectory) -> None:
    """Raise unless the weights are exactly those of transformers' class, all in floating point."""
    document = check_small_files(source.path)
    require_unquantized(document, source.index)
    require_promised(document, source.index)
    build_on_meta(source)


def _lengthen_tokenizer(out: Path, before: int, after: int) -> None:
    """Raise the tokenizer's length limit in proportion to the context."""
    path = out / "tokenizer_config.json"
    if after == before or not path.is_file():
        return
    settings = read_json_object(path)
    limit = settings.get("model_max_length")
    if isinstance(limit, int | float) and limit < _UNLIMITED_TOKENS:
        settings["model_max_length"] = int(limit * after / before)
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
