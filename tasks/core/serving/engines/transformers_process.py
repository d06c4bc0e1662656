"""The process of the `transformers` engine: one model, continuous batching."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from tasks.core.errors import ServingFailed
from tasks.core.serving.engines.batching import BatchingGenerator
from tasks.core.serving.engines.cache_room import cache_room
from tasks.core.serving.engines.loaded import LoadedModel, context_of, precision_of, rope_by_length
from tasks.core.serving.engines.process import run_engine
from tasks.core.serving.engines.process_arguments import EngineArguments


def load(arguments: EngineArguments) -> LoadedModel:
    """Return the model in the requested type, by default that of its file (on a GPU).

    Raises ServingFailed for a model whose answers would depend on concurrent requests.
    """
    quantized = _eight_bits() if arguments.load_8bit else None
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        arguments.model,
        dtype="auto" if arguments.dtype is None else getattr(torch, arguments.dtype),
        device_map={"": arguments.device},
        quantization_config=quantized,
        attn_implementation="sdpa",
        trust_remote_code=True,
    )
    model.eval()  # type: ignore[no-untyped-call]
    _require_independent_rows(model)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, trust_remote_code=True)

    def generator() -> BatchingGenerator:
        room = cache_room(model, context_tokens=context_of(model), requests=arguments.running)
        return BatchingGenerator(model, tokenizer, room, requests=arguments.running)

    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        template=arguments.template,
        precision=precision_of(model, load_8bit=arguments.load_8bit),
        generator=generator,
    )


def _eight_bits() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]


def _require_independent_rows(model: Any) -> None:
    if kinds := rope_by_length(model):
        raise ServingFailed(
            "With this RoPE scaling a long request would change the answers of concurrent ones.",
            where="rope_type of the model's config.json",
            expected="linear, yarn or llama3 scaling, or none",
            found=", ".join(sorted(kinds)),
            next_step="Set deploy.engine: fastchat (`--engine fastchat`), which answers one "
            "request at a time for such a model.",
        )


def main(*words: str) -> int:
    """Serve until it is stopped; return the exit code."""
    return run_engine(words, load)
