"""The rungs that training steps down when memory runs out, as data.

Each rung keeps what the ones above it changed, and `global_batch_size` (micro batch *
accumulation * processes) is the same on every one, so that a run may go on from its checkpoint a
rung lower. What runs out, and when to step, is not decided here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.core.recipe import Finetune


@dataclass(frozen=True)
class Rung:
    """One way to train the same thing: complete settings, and what they mean to the user."""

    name: str
    settings: Finetune
    changes: str
    saves: str
    costs: str


def global_batch_size(finetune: Finetune) -> int:
    """Return how many conversations one optimizer step learns from."""
    accumulation = finetune.gradient_accumulation_steps
    return finetune.micro_batch_size * accumulation * finetune.processes


def rungs(finetune: Finetune) -> list[Rung]:
    """Return the ladder, from what was asked down to what needs the least GPU or host memory.

    Rungs that would change nothing are left out: a recipe that asks for ZeRO-3 and gradient
    checkpointing has a short ladder. With several processes ZeRO-3 is tried before its offload,
    which is slower and needs host memory. On the CPU nothing is offloaded or quantized, because the
    host's memory is the device's. A recipe that asks for 4 bits stays with them: several GPUs can
    divide bitsandbytes' weights, but they are not offloaded.
    """
    first = Rung("as asked", finetune, "nothing", "nothing", "nothing")
    ladder = [first, *_smaller_micro_batches(finetune)]
    for step in _STEPS:
        rung = step(ladder[-1].settings)
        if rung is not None and rung.settings != ladder[-1].settings:
            ladder.append(rung)
    return ladder


def _smaller_micro_batches(finetune: Finetune) -> Iterator[Rung]:
    """Yield one rung for each halving; an odd micro batch falls to its largest divisor."""
    micro, accumulation = finetune.micro_batch_size, finetune.gradient_accumulation_steps
    rows = "pair(s)" if finetune.method == "dpo" else "conversation(s)"
    while micro > 1:
        factor = next(n for n in range(2, micro + 1) if micro % n == 0)
        micro, accumulation = micro // factor, accumulation * factor
        settings = finetune.model_copy(
            update={"micro_batch_size": micro, "gradient_accumulation_steps": accumulation}
        )
        yield Rung(
            f"micro batch {micro}",
            settings,
            f"{micro} {rows} a device at once, {accumulation} micro batches a step",
            f"activations and logits, to 1/{factor} of the rung before",
            "more, smaller steps of arithmetic: slower where the GPU was not full",
        )


def _checkpointing(now: Finetune) -> Rung:
    return Rung(
        "gradient checkpointing",
        now.model_copy(update={"gradient_checkpointing": True}),
        "each layer keeps only its input and computes the rest a second time",
        "nearly all activations",
        "about a third more time",
    )


def _optimizer_offload(now: Finetune) -> Rung | None:
    if not _can_offload(now) or now.offload != "none":
        return None
    return Rung(
        "optimizer offload",
        now.model_copy(update={"offload": "optimizer", "zero_stage": max(2, now.zero_stage)}),
        "optimizer states and the update itself move to the host",
        "optimizer states: little with LoRA, where they are small",
        "host memory, and a copy of the gradients each step",
    )


def _zero3(now: Finetune) -> Rung | None:
    if now.processes == 1 or now.offload == "all" or now.quantization == "4bit":
        return None
    return Rung(
        "ZeRO-3",
        now.model_copy(update={"zero_stage": 3}),
        "each process holds its share of the weights",
        "all weights but one share a process",
        "every layer is gathered from the other processes twice a micro batch",
    )


def _parameter_offload(now: Finetune) -> Rung | None:
    if not _can_offload(now):
        return None
    return Rung(
        "ZeRO-3 with parameter offload",
        now.model_copy(update={"zero_stage": 3, "offload": "all"}),
        "the weights stay in the host's memory and come to the GPU layer by layer",
        "all weights on the GPU but the layers at work",
        "the whole model in host memory; every micro batch moves it over PCIe twice",
    )


def _four_bit(now: Finetune) -> Rung | None:
    if not _can_offload(now):  # 4-bit already, or no GPU to compute it on
        return None
    return Rung(
        "4-bit",
        now.model_copy(
            update={"quantization": "4bit", "zero_stage": 2, "offload": "none"},
        ),
        "frozen weights in NF4 on every GPU (QLoRA), no offload",
        "three quarters of the weights, and the host's memory of the rung before",
        "weights rounded to 4 bits, about a third more time, a whole 4-bit copy on each GPU",
    )


def _four_bit_divided(now: Finetune) -> Rung | None:
    if now.quantization != "4bit" or now.processes == 1:
        return None
    return Rung(
        "4-bit under ZeRO-3",
        now.model_copy(update={"zero_stage": 3}),
        "each process holds its share of the 4-bit weights",
        "all 4-bit weights but one share a process, once the training runs",
        "each layer is gathered twice a micro batch; each GPU holds all of it while it loads",
    )


def _pageable(now: Finetune) -> Rung | None:
    if now.offload != "all" or now.device == "cpu" or now.offload_directory is not None:
        return None
    return Rung(
        "pageable offload",
        now.model_copy(update={"pin_memory": False}),
        "offloaded weights lie in ordinary host memory",
        "host memory: page-locked pieces are rounded up to powers of two",
        "copies between host and GPU at a fraction of their speed: a fifth on an H100",
    )


_STEPS = (
    _checkpointing,
    _optimizer_offload,
    _zero3,
    _parameter_offload,
    _pageable,
    _four_bit,
    _four_bit_divided,
)


def _can_offload(now: Finetune) -> bool:
    return now.device == "cuda" and now.quantization == "none"
