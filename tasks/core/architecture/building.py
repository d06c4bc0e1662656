"""Modules built from a directory's configuration, on the meta device: shapes, no weights."""

# mypy: allow-untyped-calls
import torch
from transformers import LlamaForCausalLM

from tasks.core.architecture.directory import ModelDirectory
from tasks.core.files.foreign import understood


def build_llama(directory: ModelDirectory) -> LlamaForCausalLM:
    """Return transformers' own LLaMA of the directory's configuration.

    Raises NotAModel, with the library's words, for a value that its modules do not take: an
    unknown activation, a RoPE scaling that is none, a padding token beyond the vocabulary.
    """
    with understood("a LLaMA", directory.path / "config.json"), torch.device("meta"):
        return LlamaForCausalLM(directory.config)
