"""How long a fine-tune takes on GPUs, from the card's peak and the model's shape.

Covers LoRA in 16 and 4 bits, gradient checkpointing, and the weights that ZeRO-3 moves. Right
within a factor of two where a card is well used; attention's own products are left out, which count
for small models with long conversations. docs/planning.md holds it against published times.

The invariant: the time is that of one process's micro batches; processes work side by side.
"""

from dataclasses import dataclass

from tasks.core.planning.shapes import ModelShape
from tasks.core.planning.stages import Rates, trained_tokens
from tasks.core.planning.training import weight_bytes
from tasks.core.recipe import Finetune

_PEAK_SHARE = 0.4
"""What training reaches of the card's peak in 16 bits, fitted to Qwen-7B on an A100."""
_LAYER_PASS_S = 1.5e-3
"""The least time of one layer's forward or backward pass, little as it may compute (the same)."""
_UNPACKING = 3200
"""Operations at the card's peak in the time in which one 4-bit weight is unpacked: Qwen-7B's Q-LoRA
on an A100 (GPTQ), and bitsandbytes on an H100."""


def training_seconds(
    shape: ModelShape,
    finetune: Finetune,
    *,
    tflops: float,
    training_tokens: int | None,
    rates: Rates | None = None,
) -> float | None:
    """Return a rough time for all epochs, or None when the amount of data is not known.

    tflops is the card's peak in 16 bits. Each pass takes 2 operations a parameter and token: one
    forward, one backward (the gradients of frozen weights are not computed), and with gradient
    checkpointing another forward (Kaplan et al., arXiv:2001.08361). 4-bit weights are unpacked in
    every pass. ZeRO-3 moves the weights twice a micro batch.
    """
    tokens = trained_tokens(finetune, training_tokens)
    if tokens is None:
        return None
    passes = _Passes(shape, finetune, tflops * 1e12)
    a_micro_batch = finetune.micro_batch_size * finetune.max_length_tokens
    seconds = passes.computing_s(a_micro_batch) + passes.unpacking_s()
    if finetune.zero_stage == 3:
        seconds += _moving_s(shape, finetune, rates or Rates())
    return seconds * tokens / (a_micro_batch * finetune.processes)


@dataclass(frozen=True)
class _Passes:
    """The passes through the model that a micro batch takes, on a card with so many operations."""

    shape: ModelShape
    finetune: Finetune
    operations_per_s: float

    @property
    def number(self) -> int:
        return 3 if self.finetune.gradient_checkpointing else 2

    def computing_s(self, tokens: int) -> float:
        """Return the time of all passes over a micro batch, without what unpacks the weights."""
        products = 2 * self.number * tokens * self.shape.multiplied_params
        least = self.number * self.shape.layers * _LAYER_PASS_S
        return max(products / (self.operations_per_s * _PEAK_SHARE), least)

    def unpacking_s(self) -> float:
        if self.finetune.quantization != "4bit":
            return 0.0
        weights = self.number * self.shape.layer_linear_params
        return weights * _UNPACKING / self.operations_per_s


def _moving_s(shape: ModelShape, finetune: Finetune, rates: Rates) -> float:
    """Return how long a process waits for the weights that are not on its card, a micro batch."""
    offloaded = finetune.offload == "all"
    far = 1.0 if offloaded else 1 - 1 / finetune.processes
    pageable = offloaded and not finetune.pin_memory
    speed = rates.pageable_bytes_per_s if pageable else rates.link_bytes_per_s
    whole = weight_bytes(shape, finetune.model_copy(update={"zero_stage": 0}))
    return 2 * whole * far / speed
