"""A LLaMA model directory: opened and checked, its weights not loaded.

Covers stock LLaMA and the edited models that this package writes, and what their configuration says
of RoPE and context length. Runs no code of the directory: our own configuration class reads both.
The invariant: an opened directory has a configuration that its own files decide, and every weight
file that its index names.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import LlamaConfig

from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig
from tasks.core.errors import NotAModel
from tasks.core.files.foreign import understood
from tasks.core.model.config import context_tokens, read_config
from tasks.core.weights.companions import companion_files, tokenizer_files
from tasks.core.weights.index import ModelIndex, read_index, require_directory, weight_files_of

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class ModelDirectory:
    """What a directory says about itself; the weight files' headers are read on first use."""

    path: Path
    config: LlamaConfig

    @property
    def edited(self) -> bool:
        """Whether the model is edited and brings our code."""
        return isinstance(self.config, KawanUsahaConfig)

    @property
    def activations(self) -> tuple[str, ...]:
        """The declared activation of each layer."""
        if isinstance(self.config, KawanUsahaConfig):
            return tuple(self.config.activations())
        return (self.config.hidden_act,) * self.config.num_hidden_layers

    @cached_property
    def index(self) -> ModelIndex:
        """The tensors on the disk, read from headers alone."""
        return read_index(self.path)

    def weight_files(self) -> dict[str, Path]:
        """Return the files that hold the weights, with their index file, by name."""
        return {name: self.path / name for name in weight_files_of(self.path).names}

    def companion_files(self) -> dict[str, Path]:
        """Return the model's other files (tokenizer, templates, licences), by name.

        No code: the writer of a new directory puts there what it runs. Raises NotAModel where there
        is no tokenizer.
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

    Raises NotAModel when it holds no model, when the model is not a LLaMA, and when it brings code
    that is not ours.
    """
    require_directory(path)
    document = read_config(path)
    kind = document.get("model_type")
    if kind == KawanUsahaConfig.model_type:
        return ModelDirectory(path, _parsed(KawanUsahaConfig, document, path))
    if document.get("auto_map"):
        raise NotAModel(
            "The model brings its own code, which an edit would replace.",
            where=path / "config.json",
            found=f"auto_map {document['auto_map']}",
            next_step="Use a model that transformers' built-in LLaMA class loads.",
        )
    if kind != LlamaConfig.model_type:
        raise NotAModel(
            "The model is not a LLaMA, and no other architecture can be edited.",
            where=path / "config.json",
            expected=f"model_type {LlamaConfig.model_type}",
            found=f"model_type {kind}",
            next_step="Use a LLaMA model (Vicuna, Llama 2, SmolLM2 and many others are).",
        )
    return ModelDirectory(path, _parsed(LlamaConfig, document, path))


def _parsed(kind: type[LlamaConfig], document: dict[str, object], path: Path) -> LlamaConfig:
    with understood("a LLaMA's configuration", path / "config.json"):
        config: LlamaConfig = kind.from_dict(document)
        context_tokens_of(config)  # raises here for values that are not numbers
    return config


def rope_parameters_of(config: LlamaConfig) -> dict[str, Any]:
    """Return the RoPE parameters in transformers' form (`rope_type`, `rope_theta`, `factor`, …)."""
    return dict(config.rope_parameters or {})


def context_tokens_of(config: LlamaConfig) -> int:
    """Return how many tokens a model of this configuration can attend to, RoPE scaling counted."""
    positions = int(config.max_position_embeddings)
    plain = {"max_position_embeddings": positions, "rope_parameters": rope_parameters_of(config)}
    return context_tokens(plain) or positions


def build_on_meta(directory: ModelDirectory) -> "LlamaForCausalLM":
    """Return transformers' own LLaMA of the directory's configuration: shapes, no weights.

    Raises NotAModel, with the library's message, for a value that its modules reject: an unknown
    activation, an invalid RoPE scaling, a padding token beyond the vocabulary.
    """
    import torch  # both take seconds, and opening a directory needs neither
    from transformers import LlamaForCausalLM

    with understood("a LLaMA", directory.path / "config.json"), torch.device("meta"):
        return LlamaForCausalLM(directory.config)
