"""How long training, evaluation and serving take, on a CPU that was measured and on known GPUs.

Operations are counted from the shape and divided by the speed of matrix products: on a CPU the
measured speed in the computing type, on a GPU a share of the card's peak. Everything else (norms,
dropout, softmax, the optimizer) is counted per token, layer and hidden unit, by constants fitted to
runs of LLaMA shapes. On GPUs this covers LoRA in 16 and 4 bits, gradient checkpointing, fused
attention, and the weights that ZeRO-3 moves; a validation share is not counted.

Right within a factor of two on an otherwise idle machine. docs/planning.md compares it with
published and measured times. The invariant: on GPUs the time is that of one process's micro
batches; processes work side by side.
"""

from dataclasses import dataclass, replace

from tasks.core.machine.gpus import GpuSpeed
from tasks.core.machine.hardware import Hardware
from tasks.core.machine.speed import CpuSpeed, LinkSpeed, Products
from tasks.core.planning.batch import micro_batch_tokens, trained_tokens
from tasks.core.planning.shape import DTYPE_BYTES, ModelShape
from tasks.core.planning.training_memory import weight_bytes
from tasks.core.recipe import Dtype, Finetune

START_S = {"finetune": 30.0, "evaluate": 15.0, "deploy": 30.0}
"""Until a stage's processes have imported torch and their libraries, without weights."""
ANSWERS_AT_ONCE = 4
"""An evaluation's answers that are written side by side; their caches lie beside the model."""

_OTHER_TRAINING = 40_000
"""Operations per token, layer and hidden unit of a LoRA step on a CPU besides products; this and
the next four constants were fitted to runs on two cores (docs/planning.md)."""
_OTHER_FORWARD = 8_000
"""The same, in a forward pass."""
_LAYER_CALL_S = 0.001
"""Of one layer for one token, in Python and the start of its operations."""
_READ_SHARE = 0.7
"""Of the measured rate, reached through a layer's smaller weights."""
_VOCABULARY_PASSES = 12
"""Reads and writes of float32 log-probabilities while models are compared."""
_SLOWER = 1.2
"""Of float32's time: less than that is neither certain nor worth a warning."""

_PEAK_SHARE = 0.63
"""The share of the card's 16-bit peak that weight products reach; fitted, with the next two, to
LoRA of Qwen-7B on an A100 and of a 13B shape on an H100."""
_LAYER_BYTES = 500
"""Memory traffic of one layer's pass besides those products, per token and hidden unit: norms,
rotation, activation, adapters, dropout."""
_LAYER_PASS_S = 1.5e-3
"""The least time of one layer's forward or backward pass, however little it computes."""
_ATTENTION_SHARE = 0.6
"""The share of the peak that fused attention reaches: 50 to 73% (arXiv:2307.08691)."""
_ATTENTION_BACKWARD = 2.5
"""Products of attention's backward pass per product of its forward pass: five to two, because the
scores are recomputed (the same, section 4.1)."""
_UNPACKING = 3200
"""Operations at the card's peak in the time that dequantizing one 4-bit weight takes: fitted to
Qwen-7B's Q-LoRA on an A100 (GPTQ), and to bitsandbytes on an H100."""
_NVLINK_SHARE = 0.75
"""The share of NVLink's speed that gathering reaches: an allowance."""


@dataclass(frozen=True)
class Rates:
    """Bytes a second when nothing was measured.

    A line of 100 Mbit/s, a SATA SSD, and PCIe 4.0 between an x8 slot's 12 GB/s and the 24 GB/s that
    an x16 slot reaches; an H100 on PCIe 5.0 reached 29, and a fifth of that from pageable memory.
    """

    network_bytes_per_s: float = 12.5e6
    disk_bytes_per_s: float = 500e6
    link_bytes_per_s: float = 16e9
    pageable_bytes_per_s: float = 3.2e9

    def over(self, link: LinkSpeed | None) -> "Rates":
        """Return these rates with those of the measured link, if there is one."""
        if link is None:
            return self
        pinned, pageable = link.pinned_bytes_per_s, link.pageable_bytes_per_s
        return replace(self, link_bytes_per_s=pinned, pageable_bytes_per_s=pageable)


@dataclass(frozen=True)
class Evaluation:
    """How much an evaluation computes, and how much of its models does not fit into memory.

    answer_steps: the tokens of the answers; tokens generated side by side count once.
    spilled_bytes: the weights that do not fit into memory, read again for each conversation and
    each of these steps.
    """

    models: int
    conversations: int
    held_out_tokens: int
    answer_steps: int
    prompt_tokens: int
    dtype: Dtype
    spilled_bytes: int = 0


def training_seconds_on_cpu(
    shape: ModelShape, finetune: Finetune, speed: CpuSpeed, tokens: float | None
) -> float | None:
    """Return the seconds of LoRA training on these tokens, all processes together on all cores.

    Frozen weights take 2 operations per parameter and token forward and 2 backward; gradient
    checkpointing adds a forward pass (Kaplan et al., arXiv:2001.08361, less the weight gradients),
    preferences another one for the reference without adapter. Attention's scores are counted by
    their length. None if the number of tokens is unknown, or the type was not measured.
    """
    measured = speed.types.get(finetune.precision)
    if tokens is None or measured is None:
        return None
    forwards = 2 if finetune.gradient_checkpointing else 1
    scores = (
        2 * shape.layers * shape.query_width * finetune.max_length_tokens
    )  # half of them are masked
    forward = 2 * shape.multiplied_params + scores
    other = _OTHER_TRAINING * shape.layers * shape.hidden
    a_token = (forwards * forward + other / 2) / measured.forward_flops_per_s
    a_token += (forward + other / 2) / measured.backward_flops_per_s
    if finetune.method == "dpo":
        reference = forward + _OTHER_FORWARD * shape.layers * shape.hidden
        a_token += reference / measured.forward_flops_per_s
    return START_S["finetune"] + tokens * a_token


def evaluation_seconds_on_cpu(
    shape: ModelShape, evaluation: Evaluation, speed: CpuSpeed, *, disk_bytes_per_s: float
) -> float | None:
    """Return the seconds of evaluating the models one after the other; None without a speed.

    For each model: reading it, a forward pass over the held-out conversations, the comparison with
    the models before it, and the answers.
    """
    rate = answer_tokens_per_s(shape, evaluation.dtype, speed)
    if rate is None:
        return None
    measured = speed.types[evaluation.dtype]
    read = evaluation.prompt_tokens + evaluation.held_out_tokens
    operations = 2 * shape.multiplied_params + _OTHER_FORWARD * shape.layers * shape.hidden
    a_token = operations / measured.forward_flops_per_s
    compared = _VOCABULARY_PASSES * DTYPE_BYTES["float32"] * shape.vocab / measured.read_bytes_per_s
    passes = evaluation.conversations + evaluation.answer_steps
    seconds = shape.weight_bytes("float16") / disk_bytes_per_s
    seconds += read * a_token + evaluation.held_out_tokens * compared
    seconds += evaluation.answer_steps / rate
    seconds += passes * evaluation.spilled_bytes / disk_bytes_per_s
    return START_S["evaluate"] + evaluation.models * seconds


def answer_tokens_per_s(shape: ModelShape, dtype: Dtype, speed: CpuSpeed) -> float | None:
    """Return the tokens per second of one answer; None if the type was not measured.

    Each token reads every weight but the embedding once: memory bandwidth is the limit.
    """
    if dtype not in speed.types:
        return None
    read_bytes = shape.multiplied_params * DTYPE_BYTES[dtype]
    seconds = read_bytes / (_READ_SHARE * speed.types[dtype].read_bytes_per_s)
    return 1 / (seconds + shape.layers * _LAYER_CALL_S)


def slower_than_float32(dtype: Dtype, products: Products, hardware: Hardware) -> str | None:
    """Return how much slower than float32 this type is here, as the end of a sentence.

    None if it is not slower, and for another machine, which is planned for by its GPUs alone.
    """
    if dtype == "float32" or hardware.gpus_named:
        return None
    here = f"than float32 on this CPU ({hardware.cpu})"
    factor = hardware.cpu_speed.slowdown(dtype, products) if hardware.cpu_speed else None
    if factor is None:
        unknown = dtype not in hardware.cpu.native
        return f"up to fifty times slower {here}; not measured." if unknown else None
    times = f"{factor:.1f}" if factor < 10 else f"{factor:.0f}"
    return f"about {times} times slower {here}, as measured." if factor > _SLOWER else None


def training_seconds_on_gpus(
    shape: ModelShape,
    finetune: Finetune,
    *,
    speed: GpuSpeed,
    training_tokens: int | None,
    rates: Rates | None = None,
) -> float | None:
    """Return a rough time for all epochs; None if the amount of data is unknown.

    Each pass takes 2 operations per parameter and token: one forward, one backward (the gradients
    of frozen weights are not computed), another forward with gradient checkpointing (Kaplan et al.,
    arXiv:2001.08361), and one of the reference for preferences. Attention is counted as if every
    row had `max_length_tokens`. 4-bit weights are dequantized in every pass. ZeRO-3 moves the
    weights twice per micro batch, and once more for the reference.
    """
    tokens = trained_tokens(finetune, training_tokens)
    if tokens is None:
        return None
    passes = _Passes(shape, finetune, speed)
    a_micro_batch = micro_batch_tokens(finetune)
    seconds = passes.computing_s(a_micro_batch) + passes.unpacking_s()
    if finetune.zero_stage == 3:
        seconds += _moving_s(shape, finetune, speed, rates or Rates())
    return seconds * tokens / (a_micro_batch * finetune.processes)


@dataclass(frozen=True)
class _Passes:
    """The passes of one micro batch through the model, on a card of this speed."""

    shape: ModelShape
    finetune: Finetune
    speed: GpuSpeed

    @property
    def number(self) -> int:
        reference = 1 if self.finetune.method == "dpo" else 0
        return reference + (3 if self.finetune.gradient_checkpointing else 2)

    @property
    def _peak(self) -> float:
        return self.speed.tflops * 1e12

    def computing_s(self, tokens: int) -> float:
        """Return the time of all passes over a micro batch, without dequantizing weights."""
        products = 2 * self.number * tokens * self.shape.multiplied_params
        moved = self.number * tokens * self.shape.layers * self.shape.hidden * _LAYER_BYTES
        seconds = (
            products / (self._peak * _PEAK_SHARE)
            + self._attention(tokens) / (self._peak * _ATTENTION_SHARE)
            + moved / self.speed.memory_bytes_per_s
        )
        return max(seconds, self.number * self.shape.layers * _LAYER_PASS_S)

    def _attention(self, tokens: int) -> float:
        """Return the operations of attention's own products; causality halves them."""
        forward = 2 * self.shape.layers * self.shape.query_width * self.finetune.max_length_tokens
        return tokens * forward * (self.number - 1 + _ATTENTION_BACKWARD)

    def unpacking_s(self) -> float:
        if self.finetune.quantization != "4bit":
            return 0.0
        weights = self.number * self.shape.layer_linear_params
        return weights * _UNPACKING / self._peak


def _moving_s(shape: ModelShape, finetune: Finetune, speed: GpuSpeed, rates: Rates) -> float:
    """Return how long a process waits per micro batch for weights that are not on its card."""
    whole = weight_bytes(shape, finetune.model_copy(update={"zero_stage": 0}))
    times = 3 if finetune.method == "dpo" else 2
    if finetune.offload == "all":
        pinned = finetune.pin_memory
        return times * whole / (rates.link_bytes_per_s if pinned else rates.pageable_bytes_per_s)
    between_cards = rates.link_bytes_per_s
    if finetune.hostfile is None:  # of several machines, the network between them decides
        between_cards = max(between_cards, speed.nvlink_bytes_per_s * _NVLINK_SHARE)
    return times * whole * (1 - 1 / finetune.processes) / between_cards
