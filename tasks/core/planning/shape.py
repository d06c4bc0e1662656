"""The shape of a LLaMA model, read from its config.json, and its exact parameter counts.

Covers the LLaMA layout (RMSNorm, rotary positions, gated MLP, grouped-query attention, optional
biases, tied embeddings) under whatever `model_type` a config names it. Not covered: mixtures of
experts, encoders, and families that add parameters to this layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from tasks.core.errors import NotAModel
from tasks.core.model.config import context_tokens, read_config, ties_embeddings
from tasks.core.recipe import Dtype

DTYPE_BYTES: Mapping[Dtype, int] = {"float32": 4, "float16": 2, "bfloat16": 2}

LinearName = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LINEAR_NAMES: tuple[LinearName, ...] = get_args(LinearName)


@dataclass(frozen=True)
class ModelShape:
    """The numbers that decide how many parameters a LLaMA has and how large its activations are."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool = False
    context: int = 2048
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False

    @property
    def query_width(self) -> int:
        """The width of all query heads together, and of the attention's output."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """The width of all key heads together; the value heads have the same."""
        return self.kv_heads * self.head_dim

    def linear(self, name: LinearName) -> tuple[int, int]:
        """Return (in, out) of one of a layer's linear modules; its weight is (out, in)."""
        return {
            "q_proj": (self.hidden, self.query_width),
            "k_proj": (self.hidden, self.kv_width),
            "v_proj": (self.hidden, self.kv_width),
            "o_proj": (self.query_width, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }[name]

    @property
    def attention_params(self) -> int:
        """Parameters of one layer's attention."""
        weights = self._weights("q_proj", "k_proj", "v_proj", "o_proj")
        qkv_bias = (self.query_width + 2 * self.kv_width) if self.qkv_bias else 0
        return weights + qkv_bias + (self.hidden if self.o_bias else 0)

    @property
    def mlp_params(self) -> int:
        """Parameters of one layer's MLP."""
        bias = (2 * self.intermediate + self.hidden) if self.mlp_bias else 0
        return self._weights("gate_proj", "up_proj", "down_proj") + bias

    @property
    def layer_params(self) -> int:
        """Parameters of one decoder layer, with its two norms."""
        return self.attention_params + self.mlp_params + 2 * self.hidden

    @property
    def embedding_params(self) -> int:
        """Parameters of the token embedding."""
        return self.vocab * self.hidden

    @property
    def head_params(self) -> int:
        """Parameters of the output projection; 0 when it is tied to the embedding."""
        return 0 if self.tied else self.embedding_params

    @property
    def total_params(self) -> int:
        """Parameters of the whole model, a shared one counted once."""
        layers = self.layers * self.layer_params
        return self.embedding_params + layers + self.hidden + self.head_params

    @property
    def multiplied_params(self) -> int:
        """Parameters that each token is multiplied with: all but an untied embedding."""
        return self.total_params - (0 if self.tied else self.embedding_params)

    @property
    def layer_linear_params(self) -> int:
        """The weights of all decoder layers' linear modules, which 4-bit quantization packs."""
        return self.layers * self._weights(*LINEAR_NAMES)

    @property
    def largest_linear_params(self) -> int:
        """The weights of the largest linear module of a decoder layer."""
        return max(self._weights(name) for name in LINEAR_NAMES)

    def weight_bytes(self, dtype: Dtype) -> int:
        """Return the size of all parameters in this type, in memory or in a file."""
        return self.total_params * DTYPE_BYTES[dtype]

    def _weights(self, *names: LinearName) -> int:
        sizes = (self.linear(name) for name in names)
        return sum(width_in * width_out for width_in, width_out in sizes)


def shape_of(model: Path) -> ModelShape:
    """Return the shape of a model directory. Raises NotAModel if it does not hold a LLaMA."""
    return shape_from_config(read_config(model), where=model)


def shape_from_config(config: Mapping[str, object], *, where: object = "config.json") -> ModelShape:
    """Return the shape that a config.json of the LLaMA family describes.

    Raises NotAModel when a number that LLaMA needs is missing or is not a positive integer, and
    for mixtures of experts, whose parameters this layout does not count.
    """
    for marker in ("num_experts", "num_local_experts", "n_routed_experts"):
        if config.get(marker):
            raise NotAModel(
                "A mixture of experts cannot be planned for.",
                where=where,
                found=f"{marker} = {config[marker]}",
                next_step="Plan with a model of the LLaMA family.",
            )

    def number(name: str, default: int | None = None) -> int:
        value = config.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise NotAModel(
                "The config does not describe a model of the LLaMA family.",
                where=where,
                expected=f"a positive whole number as `{name}`",
                found=repr(value),
            )
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    bias = bool(config.get("attention_bias", False))
    return ModelShape(
        layers=number("num_hidden_layers"),
        hidden=hidden,
        intermediate=number("intermediate_size"),
        heads=heads,
        kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", hidden // heads),
        vocab=number("vocab_size"),
        tied=ties_embeddings(config),
        context=context_tokens(config) or number("max_position_embeddings", 2048),
        # Qwen2 is LLaMA with biases on query, key and value that its config does not mention.
        qkv_bias=bias or config.get("model_type") == "qwen2",
        o_bias=bias,
        mlp_bias=bool(config.get("mlp_bias", False)),
    )


def dtype_of(model: Path) -> Dtype:
    """Return the type of the weights according to a model directory's config.json.

    float32 where that cannot be read: loading the model then reports what is wrong.
    """
    try:
        config = read_config(model)
    except NotAModel:
        return "float32"
    return dtype_from_config(config)


def dtype_from_config(config: Mapping[str, object]) -> Dtype:
    """Return the type of the weights, float32 where the config names none or an unknown one.

    transformers 5 writes `dtype`, and still reads the `torch_dtype` of earlier versions.
    """
    named = str(config.get("dtype", config.get("torch_dtype")))
    return cast("Dtype", named) if named in DTYPE_BYTES else "float32"


def _llama1(layers: int, hidden: int, intermediate: int, heads: int) -> ModelShape:
    return ModelShape(
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        vocab=32_000,
    )


LLAMA_7B = _llama1(32, 4096, 11_008, 32)
LLAMA_13B = _llama1(40, 5120, 13_824, 40)
LLAMA_30B = _llama1(60, 6656, 17_920, 52)
SMOLLM2_135M = ModelShape(
    layers=30,
    hidden=576,
    intermediate=1536,
    heads=9,
    kv_heads=3,
    head_dim=64,
    vocab=49_152,
    context=8192,
)
"""With an untied output layer, as the demo's models have it (demo/models.py)."""

_KNOWN: Mapping[str, ModelShape] = {
    "huggyllama/llama-7b": LLAMA_7B,
    "huggyllama/llama-13b": LLAMA_13B,
    "huggyllama/llama-30b": LLAMA_30B,
    "lmsys/vicuna-7b-delta-v1.1": LLAMA_7B,
    "lmsys/vicuna-13b-delta-v1.1": LLAMA_13B,
    "kawan-usaha/demo-base": SMOLLM2_135M,
}


def known_shape(repo: str) -> ModelShape | None:
    """Return the shape of a repository that the default recipes name, without asking the Hub.

    None for any other repository: fetch its config.json and use shape_from_config.
    """
    return _KNOWN.get(repo)
