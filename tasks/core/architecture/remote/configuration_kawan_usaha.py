"""The configuration of a LLaMA model whose layers differ in their activation function.

This file travels inside the model directory and depends on transformers alone. It covers what a
stock `LlamaConfig` cannot say: `hidden_acts`, one activation name for each layer. Everything else,
RoPE scaling included, is LLaMA's own.
"""

# mypy: allow-untyped-calls
from typing import Any

import transformers
from transformers import LlamaConfig

if int(transformers.__version__.split(".")[0]) < 5:
    # Older releases do not know `rope_parameters` and would drop the RoPE of this model silently.
    raise ImportError(
        f"This model needs transformers 5 or newer; found {transformers.__version__}."
    )


class KawanUsahaConfig(LlamaConfig):
    """LLaMA's configuration with one activation name for each layer.

    hidden_acts has num_hidden_layers entries, names of `transformers.activations.ACT2FN`; without
    it every layer has hidden_act. Raises ValueError when the number of entries is another.
    """

    # A type of its own: with "llama", a loader without trust_remote_code would take the built-in
    # class and drop the edit without a word.
    model_type = "kawan_usaha_llama"

    hidden_acts: list[str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in hidden_acts and check it."""
        super().__post_init__(**kwargs)
        if self.hidden_acts is None:
            self.hidden_acts = [self.hidden_act] * self.num_hidden_layers
        self.activations()

    def activations(self) -> list[str]:
        """Return the activation name of each layer, first layer first."""
        names = self.hidden_acts or []
        if len(names) != self.num_hidden_layers:
            raise ValueError(
                f"hidden_acts names {len(names)} layers, but num_hidden_layers is "
                f"{self.num_hidden_layers}."
            )
        return list(names)
