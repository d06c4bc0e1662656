"""A LLaMA model directory: opened, judged, not loaded.

Covers stock LLaMA and the edited models that this package writes. Runs no code of the directory:
our own configuration class reads both. The invariant: an opened directory has a configuration that
its own files decide, and every weight file that its index names.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformers import LlamaConfig

from tasks.core.architecture.edits.rope import context_tokens
from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig
from tasks.core.errors import NotAModel
from tasks.core.files.foreign import understood
from tasks.core.model.config import read_config
from tasks.core.weights.companions import companion_files, tokenizer_files
from tasks.core.weights.index import ModelIndex, read_index, require_directory, weight_files_of


@dataclass(frozen=True)
class ModelDirectory:
    """What a directory says about itself; weights are looked at when they are asked for."""

    path: Path
    config: LlamaConfig

    @property
    def edited(self) -> bool:
        """Whether it carries an edit with code of its own."""
        return isinstance(self.config, KawanUsahaConfig)

    @property
    def activations(self) -> tuple[str, ...]:
        """The declared activation of each layer."""
        if isinstance(self.config, KawanUsahaConfig):
            return tuple(self.config.activations())
        return (self.config.hidden_act,) * self.config.num_hidden_layers

    @cached_property
    def index(self) -> ModelIndex:
        """The tensors on the disk, from headers alone."""
        return read_index(self.path)

    def weight_files(self) -> dict[str, Path]:
        """Return the files that hold the weights, with their index file, by name."""
        return {name: self.path / name for name in weight_files_of(self.path).names}

    def companion_files(self) -> dict[str, Path]:
        """Return what goes with the model besides weights and configuration, by name.

        No code: what a new directory runs, its writer puts there. Raises NotAModel where there is
        no tokenizer.
        """
        tokenizer_files(self.path)
        companions = companion_files(self.path)
        return {
            name: path
            for name, path in companions.items()
            if name != "config.json" and not name.endswith(".py")
        }


def open_model(path: Path) -> ModelDirectory:
    """Return the model directory at path.

    Raises NotAModel when it is none, when its model is not a LLaMA, and when it has code of its
    own that is not ours.
    """
    require_directory(path)
    document = read_config(path)
    kind = document.get("model_type")
    if kind == KawanUsahaConfig.model_type:
        return ModelDirectory(path, _parsed(KawanUsahaConfig, document, path))
    if document.get("auto_map"):
        raise NotAModel(
            "The model has code of its own, which an edit would replace.",
            where=path / "config.json",
            found=f"auto_map {document['auto_map']}",
            next_step="Use a model that transformers' built-in LLaMA class loads.",
        )
    if kind != LlamaConfig.model_type:
        raise NotAModel(
            "The model is not a LLaMA; no other architecture can be edited.",
            where=path / "config.json",
            expected=f"model_type {LlamaConfig.model_type}",
            found=f"model_type {kind}",
            next_step="Use a LLaMA model (Vicuna, Llama 2, SmolLM2 and many others are).",
        )
    return ModelDirectory(path, _parsed(LlamaConfig, document, path))


def _parsed(kind: type[LlamaConfig], document: dict[str, object], path: Path) -> LlamaConfig:
    with understood("a LLaMA's configuration", path / "config.json"):
        config: LlamaConfig = kind.from_dict(document)
        context_tokens(config)  # numbers that are none show here
    return config
