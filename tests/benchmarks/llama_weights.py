"""LLaMA-shaped base, delta and adapter of a given size, made as a stream, never whole in memory.

The values are random but alike real ones in what matters here: weights around 0.02, a delta a tenth
of that, normalization weights near one (base) and near zero (delta).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from tasks.core.progress import silent
from tasks.core.weights.layout import MAX_SHARD_BYTES, Layout, TensorPiece, TensorSpec, plan_layout
from tasks.core.weights.produce import WeightsWork, produce
from tests.models import tiny_tokenizer

RANK = 16
_BLOCK_ELEMENTS = 1 << 22
_LINEAR = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


@dataclass(frozen=True)
class Shape:
    """The numbers that decide a LLaMA's size."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    vocab: int = 32_000

    def linear(self, module: str) -> tuple[int, int]:
        """Return (out, in) of a linear layer."""
        if module == "mlp.down_proj":
            return self.hidden, self.intermediate
        return (self.intermediate if module in _MLP else self.hidden), self.hidden


SHAPES = {
    "tiny": Shape(hidden=64, layers=2, intermediate=128, heads=4),
    "160M": Shape(hidden=768, layers=12, intermediate=3072, heads=12),
    "3B": Shape(hidden=3200, layers=26, intermediate=8640, heads=32),
    "7B": Shape(hidden=4096, layers=32, intermediate=11008, heads=32),
    "13B": Shape(hidden=5120, layers=40, intermediate=13824, heads=40),
}
"""JackFram/llama-160m, openlm-research/open_llama_3b, huggyllama/llama-7b, and llama-13b."""


def make_model(
    path: Path,
    shape: Shape,
    *,
    seed: int,
    scale: float,
    norm: float,
    shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """Write a float16 model: weights of the deviation scale, normalization weights near norm."""
    generator = torch.Generator().manual_seed(seed)
    noise = (scale * torch.randn(_BLOCK_ELEMENTS, generator=generator)).to(torch.float16)

    def fill(piece: TensorPiece) -> torch.Tensor:
        values = noise[: piece.stop - piece.start]
        return values + norm if piece.name.endswith("norm.weight") else values

    companions = {"config.json": json.dumps(_config(shape)).encode()}
    produce(
        WeightsWork(
            "benchmark", (), _layout(shape, shard_bytes), parameters=f"{seed} {scale} {norm}"
        ),
        [],
        fill,
        companions,
        path,
        threads=None,
        on_progress=silent,
    )
    tiny_tokenizer().save_pretrained(path)
    return path


def make_adapter(path: Path, shape: Shape) -> Path:
    """Write a LoRA adapter of rank 16 on every linear layer, as PEFT names it."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for layer in range(shape.layers):
        for module in (*_LINEAR, *_MLP):
            rows, columns = shape.linear(module)
            name = f"base_model.model.model.layers.{layer}.{module}"
            sizes = {"lora_A": (RANK, columns), "lora_B": (rows, RANK)}
            for side, size in sizes.items():
                tensors[f"{name}.{side}.weight"] = 0.01 * torch.randn(size, generator=generator)
    path.mkdir(parents=True)
    save_file(tensors, path / "adapter_model.safetensors", {"format": "pt"})
    modules = [module.split(".")[-1] for module in (*_LINEAR, *_MLP)]
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "target_modules": modules}
    (path / "adapter_config.json").write_text(json.dumps({**config, "task_type": "CAUSAL_LM"}))
    return path


def _layout(shape: Shape, shard_bytes: int) -> Layout:
    vocabulary = (shape.vocab, shape.hidden)
    specs = [TensorSpec("model.embed_tokens.weight", "F16", vocabulary)]
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        for module in (*_LINEAR, *_MLP):
            specs.append(TensorSpec(f"{prefix}{module}.weight", "F16", shape.linear(module)))
        for norm in ("input_layernorm", "post_attention_layernorm"):
            specs.append(TensorSpec(f"{prefix}{norm}.weight", "F16", (shape.hidden,)))
    specs.append(TensorSpec("model.norm.weight", "F16", (shape.hidden,)))
    specs.append(TensorSpec("lm_head.weight", "F16", vocabulary))
    return plan_layout(specs, shard_bytes)


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "vocab_size": shape.vocab,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    }
