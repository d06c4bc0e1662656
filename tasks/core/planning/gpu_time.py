"""How long a fine-tune takes on GPUs, from what the card can do and the model's shape.

Covers LoRA in 16 and 4 bits, gradient checkpointing, fused attention, and the weights that ZeRO-3
moves. Right within a factor of two where a card is well used; a validation share is not counted.
docs/planning.md holds it against published times.

The invariant: the time is that of one process's micro batches; processes work side by side.
"""

from dataclasses import dataclass

from tasks.core.machine.gpus import GpuSpeed
from tasks.core.planning.activations import micro_batch_tokens
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.stages import Rates, trained_tokens
from tasks.core.planning.training import weight_bytes
from tasks.core.recipe import Finetune

_PEAK_SHARE = 0.63
"""What products of weights reach of the card's peak in 16 bits; fitted, with the next two, to LoRA
of Qwen-7B on an A100 and of a 13B shape on an H100."""
_LAYER_BYTES = 500
"""What a layer's pass moves a token and hidden width in the card's memory beside those products:
norms, rotation, activation, adapters, dropout."""
_LAYER_PASS_S = 1.5e-3
"""The least time of one layer's forward or backward pass, little as it may compute."""
_ATTENTION_SHARE = 0.6
"""What fused attention reaches of the peak: 50 to 73% (FlashAttention-2, arXiv:2307.08691)."""
_ATTENTION_BACKWARD = 2.5
"""Products of attention's backward pass to those of its forward pass: five to two, for the scores
are computed a second time (the same, section 4.1)."""
_UNPACKING = 3200
"""Operations at the card's peak in the time in which one 4-bit weight is unpacked: Qwen-7B's Q-LoRA
on an A100 (GPTQ), and bitsandbytes on an H100."""
_NVLINK_SHARE = 0.75
"""What gathering reaches of NVLink's speed: an allowance."""


def training_seconds(
    shape: ModelShape,
    finetune: Finetune,
    *,
    speed: GpuSpeed,
    training_tokens: int | None,
    rates: Rates | None = None,
) -> float | None:
    """Return a rough time for all epochs, or None when the amount of data is not known.

    Each pass takes 2 operations a parameter and token: one forward, one backward (the gradients of
    frozen weights are not computed), with gradient checkpointing another forward (Kaplan et al.,
    arXiv:2001.08361), and for preferences one of the reference. Attention is that within a whole
    row of `max_length_tokens`, which shorter conversations do not have. 4-bit weights are unpacked
    in every pass. ZeRO-3 moves the weights twice a micro batch, for the reference once more.
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
    """The passes through the model that a micro batch takes, on a card of this speed."""

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
        """Return the time of all passes over a micro batch, without what unpacks the weights."""
        products = 2 * self.number * tokens * self.shape.multiplied_params
        moved = self.number * tokens * self.shape.layers * self.shape.hidden * _LAYER_BYTES
        seconds = (
            products / (self._peak * _PEAK_SHARE)
            + self._attention(tokens) / (self._peak * _ATTENTION_SHARE)
            + moved / self.speed.memory_bytes_per_s
        )
        return max(seconds, self.number * self.shape.layers * _LAYER_PASS_S)

    def _attention(self, tokens: int) -> float:
        """Return the operations of attention's own products, half of them spared by causality."""
        forward = 2 * self.shape.layers * self.shape.query_width * self.finetune.max_length_tokens
        return tokens * forward * (self.number - 1 + _ATTENTION_BACKWARD)

    def unpacking_s(self) -> float:
        if self.finetune.quantization != "4bit":
            return 0.0
        weights = self.number * self.shape.layer_linear_params
        return weights * _UNPACKING / self._peak


def _moving_s(shape: ModelShape, finetune: Finetune, speed: GpuSpeed, rates: Rates) -> float:
    """Return how long a process waits for the weights that are not on its card, a micro batch."""
    whole = weight_bytes(shape, finetune.model_copy(update={"zero_stage": 0}))
    times = 3 if finetune.method == "dpo" else 2
    if finetune.offload == "all":
        pinned = finetune.pin_memory
        return times * whole / (rates.link_bytes_per_s if pinned else rates.pageable_bytes_per_s)
    between_cards = rates.link_bytes_per_s
    if finetune.hostfile is None:  # of several machines, the network between them decides
        between_cards = max(between_cards, speed.nvlink_bytes_per_s * _NVLINK_SHARE)
    return times * whole * (1 - 1 / finetune.processes) / between_cards
