"""The figures that need more than settings: an H100's ladder, serving, estimators, real steps."""

import contextlib
import dataclasses
import io

import torch
from accelerate.utils import calculate_maximum_sizes
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs
from transformers import LlamaForCausalLM

from tasks.core.machine.speed import LinkSpeed
from tasks.core.planning.activations import kept_bytes, working_bytes
from tasks.core.planning.rungs import rungs_of
from tasks.core.planning.serving import kv_cache_bytes, serving_memory
from tasks.core.planning.shape import LLAMA_7B, LLAMA_13B, SMOLLM2_135M, ModelShape
from tasks.core.planning.times import Rates, training_seconds_on_cpu
from tasks.core.planning.training_memory import (
    adapter_state_bytes,
    gathered_bytes,
    lora_params,
    training_memory,
)
from tasks.core.recipe import Finetune, Lora
from tests.machines import AVX2
from tests.unit.planning.published.tables import GB, Row, Table, seconds_for
from tests.unit.planning.reference import config_of, watched_step

_AS_THE_ORIGINAL = Finetune(
    micro_batch_size=2,
    gradient_accumulation_steps=2,
    gradient_checkpointing=False,
    zero_stage=2,
    processes=1,
)
"""What bench_gpu ran on one H100, with a 13B LLaMA's shape."""


def measured_tables() -> list[Table]:
    """Return what was measured here, and what other programs compute."""
    return [
        _h100(),
        _serving(),
        _deepspeed_and_accelerate(),
        _real_steps(),
        *_h100_speeds(),
        _h100_link(),
        _smollm2_on_a_cpu(),
    ]


def _rung(name: str) -> Finetune:
    return next(rung.settings for rung in rungs_of(_AS_THE_ORIGINAL) if rung.name == name)


def _h100() -> Table:
    seen = {
        "as asked": 64.0,
        "micro batch 1": 46.0,
        "gradient checkpointing": 30.3,
        "optimizer offload": 30.3,
        "ZeRO-3 with parameter offload": 6.90,
        "pageable offload": 6.76,
        "4-bit": 11.4,
    }
    rows = [
        Row(
            f"13B on an H100, {name}",
            figure,
            training_memory(LLAMA_13B, _rung(name)).gpu_bytes / GB,
        )
        for name, figure in seen.items()
    ]
    fitted = "the allowance for CUDA"
    return Table("Memory on an H100", tuple(rows), (-0.005, 0.04), fitted)


def _serving() -> Table:
    def needed(shape: ModelShape, **changes) -> float:
        return serving_memory(shape, 16, context_tokens=2048, **changes).needed_bytes() / GB

    rows = (
        Row("Vicuna-13B, fp16, GPU", 28, needed(LLAMA_13B)),
        Row("Vicuna-7B, fp16, GPU", 14, needed(LLAMA_7B)),
        Row("Vicuna-13B, CPU", 60, needed(LLAMA_13B, device="cpu")),
        Row("Vicuna-7B, CPU", 30, needed(LLAMA_7B, device="cpu")),
        Row("LLaMA-13B, KV cache of 2048 tokens", 1.7, kv_cache_bytes(LLAMA_13B, 2048) / GB),
    )
    return Table("Serving, FastChat and vLLM", rows, (-0.1, 0.15))


def _deepspeed_and_accelerate() -> Table:
    asked = Finetune(processes=2, zero_stage=2, lora=Lora(r=64, target_modules="all-linear"))
    n_lora = lora_params(LLAMA_13B, asked.lora)
    with contextlib.redirect_stdout(io.StringIO()):
        _, zero2 = estimate_zero2_model_states_mem_needs(n_lora, 2, 1, cpu_offload=False)
        _, zero3, _ = estimate_zero3_model_states_mem_needs(n_lora, 0, 2, 1, cpu_offload=False)
        host, _, _ = estimate_zero3_model_states_mem_needs(
            n_lora, 0, 2, 1, cpu_offload_params=False, additional_buffer_factor=1
        )
        layer = LLAMA_13B.layer_params
        _, one_layer, _ = estimate_zero3_model_states_mem_needs(LLAMA_13B.total_params, layer)
    stage3 = asked.model_copy(update={"zero_stage": 3})
    moved = training_memory(LLAMA_13B, stage3.model_copy(update={"offload": "optimizer"}))
    on_host = next(term.bytes for term in moved.host if term.name == "optimizer")
    with torch.device("meta"):
        total, _ = calculate_maximum_sizes(LlamaForCausalLM(config_of(LLAMA_13B)).half())
    states = {stage: sum(adapter_state_bytes(n_lora, stage)) / GB for stage in (asked, stage3)}
    rows = (
        Row("LoRA states, ZeRO-2, DeepSpeed", zero2 / GB, states[asked]),
        Row("LoRA states, ZeRO-3, DeepSpeed", zero3 / GB, states[stage3]),
        Row("LoRA states on the host, DeepSpeed", host / GB, on_host / GB),
        Row("Layers gathered, DeepSpeed", one_layer / GB, gathered_bytes(LLAMA_13B, stage3) / GB),
        Row("LLaMA-13B weights, accelerate", total / GB, LLAMA_13B.weight_bytes("float16") / GB),
    )
    return Table("Estimators of DeepSpeed and accelerate", rows, (-0.01, 0.85))


def _real_steps() -> Table:
    small = ModelShape(
        layers=6, hidden=128, intermediate=352, heads=4, kv_heads=2, head_dim=32, vocab=500
    )
    rows = []
    for name, checkpointing, vocab in (
        ("kept", False, 500),
        ("checkpointing", True, 500),
        ("wide vocabulary", True, 4000),
    ):
        shape = dataclasses.replace(small, vocab=vocab)
        asked = Finetune(
            micro_batch_size=2,
            max_length_tokens=128,
            device="cpu",
            gradient_checkpointing=checkpointing,
        )
        foreseen = kept_bytes(shape, asked) + working_bytes(shape, asked)
        peak = watched_step(shape, asked).peak
        rows.append(Row(f"A real step, {name}", peak / GB, foreseen / GB))
    return Table("A real step", tuple(rows), (-0.01, 0.08))


def _speeds(seen: dict[str, int], suffix: str, rates: Rates | None = None) -> tuple[Row, ...]:
    tokens = 10**6
    return tuple(
        Row(
            f"13B on an H100, {name}, {suffix}",
            figure,
            tokens / seconds_for(LLAMA_13B, _rung(name), "H100", tokens, rates),
        )
        for name, figure in seen.items()
    )


def _h100_speeds() -> tuple[Table, Table]:
    computing = {"as asked": 6687, "micro batch 1": 6351, "gradient checkpointing": 4842}
    moving = {"ZeRO-3 with parameter offload": 932, "pageable offload": 198}
    fitted = "the share of the peak, what a layer moves; the time of unpacking"
    return (
        Table(
            "Speed on an H100",
            _speeds({**computing, "4-bit": 3828}, "tokens/s"),
            (-0.2, 0.2),
            fitted,
        ),
        Table("Speed on an H100, link not measured", _speeds(moving, "tokens/s"), (-0.5, 1)),
    )


def _h100_link() -> Table:
    """The H100's link as a measurement gives it; ordinary memory at the fifth that plans assume."""
    measured = LinkSpeed(pinned_bytes_per_s=29e9, pageable_bytes_per_s=5.8e9)
    seen = {"ZeRO-3 with parameter offload": 932, "pageable offload": 198}
    rows = _speeds(seen, "its link", Rates().over(measured))
    return Table(
        "Speed on an H100, its link", rows, (-1 / 7, 1 / 7), "the fifth for pageable memory"
    )


def _smollm2_on_a_cpu() -> Table:
    rows = []
    for precision, seen in (("float32", 121), ("bfloat16", 2.4)):
        asked = Finetune(
            **{"device": "cpu", "precision": precision, "max_length_tokens": 512},
            gradient_checkpointing=False,
        )
        tokens = 10**9  # so many that the start of the processes does not count
        seconds = training_seconds_on_cpu(SMOLLM2_135M, asked, AVX2, tokens) or 0
        rows.append(Row(f"SmolLM2, a LoRA step in {precision}", seen, tokens / seconds))
    return Table("Speed of a CPU", tuple(rows), (-0.25, 0.25))
