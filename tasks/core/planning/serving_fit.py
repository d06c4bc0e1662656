"""Whether the recipe's service fits, and how many conversations of full length at once.

Covers an engine as `deploy` starts it, with the other weight widths beside it for comparison.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from tasks.core.machine.cpu import compute_dtype
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.cpu_time import answer_tokens_per_s
from tasks.core.planning.serving import (
    Bits,
    Device,
    ServingMemory,
    serving_memory,
)
from tasks.core.planning.shape import ModelShape
from tasks.core.recipe import Dtype
from tasks.core.recipe.deploy import FASTCHAT_AT_ONCE, Deploy
from tasks.core.units import readable


@dataclass(frozen=True)
class WidthFit:
    """Serving with weights of one width: what it needs, and how many conversations fit."""

    bits: Bits
    memory: ServingMemory
    fixed_bytes: int
    sequences: int


@dataclass(frozen=True)
class ServingFit:
    """The service that the recipe asks for, and its alternatives.

    cpu_tokens_per_s: of one answer on the CPU, with weights in 16 or 32 bits; None on a GPU, and
    where the CPU was not measured.
    """

    verdict: Literal["fits", "does not fit"]
    reason: str
    chosen_bits: Bits
    context_tokens: int
    device_memory_bytes: int
    widths: tuple[WidthFit, ...]
    remedies: tuple[str, ...]
    device: Device
    cpu_tokens_per_s: float | None


def fit_serving(
    shape: ModelShape,
    deploy: Deploy,
    hardware: Hardware,
    *,
    context_factor: float = 1.0,
    stored: Dtype = "float16",
) -> ServingFit:
    """Return the verdict on serving a model that is stored in this type.

    context_factor lengthens the context as the edit does.
    """
    context = int(shape.context * context_factor)
    room = _room(deploy, hardware)
    widths = tuple(_width(shape, bits, context, deploy, room) for bits in get_args(Bits))
    chosen: Bits = 8 if deploy.load_8bit else 16
    mine = next(width for width in widths if width.bits == chosen)
    problem = _problem(deploy, hardware)
    fits = problem is None and mine.sequences > 0
    return ServingFit(
        verdict="fits" if fits else "does not fit",
        reason=problem or _reason(mine, room, context, deploy),
        chosen_bits=chosen,
        context_tokens=context,
        device_memory_bytes=room,
        widths=widths,
        remedies=_beside(mine, room, deploy)
        if fits
        else _remedies(shape, deploy, hardware, widths, context),
        device=deploy.device,
        cpu_tokens_per_s=_cpu_tokens_per_s(shape, deploy, hardware, stored),
    )


def _cpu_tokens_per_s(
    shape: ModelShape, deploy: Deploy, hardware: Hardware, stored: Dtype
) -> float | None:
    if deploy.device != "cpu" or hardware.cpu_speed is None:
        return None
    return answer_tokens_per_s(shape, compute_dtype(stored, hardware.cpu), hardware.cpu_speed)


def _room(deploy: Deploy, hardware: Hardware) -> int:
    if deploy.device == "cpu":
        return hardware.memory_bytes
    used = hardware.gpus[: deploy.gpus]
    return min((gpu.memory_bytes for gpu in used), default=0)


def _width(shape: ModelShape, bits: Bits, context: int, deploy: Deploy, room: int) -> WidthFit:
    memory = serving_memory(
        shape, bits, context_tokens=context, device=deploy.device, gpus=deploy.gpus
    )
    return WidthFit(bits, memory, memory.fixed_bytes, memory.sequences_in(room))


def _problem(deploy: Deploy, hardware: Hardware) -> str | None:
    if deploy.device == "cpu":
        return None
    if deploy.gpus > len(hardware.gpus):
        return f"deploy.gpus is {deploy.gpus}; there is {len(hardware.gpus) or 'no GPU'}."
    if deploy.load_8bit and deploy.gpus > 1:
        return "FastChat holds 8-bit weights on one GPU only; deploy.gpus asks for more."
    return None


def _beside(width: WidthFit, room: int, deploy: Deploy) -> tuple[str, ...]:
    """Return what to do where the next model does not fit beside this one."""
    if deploy.switch == "replace" or 2 * width.fixed_bytes <= room:
        return ()
    return (
        f"Two of it take {readable(2 * width.fixed_bytes)}, so the next model cannot start beside "
        "it: set deploy.switch: replace, which has a gap, or take a device with more memory.",
    )


def _reason(width: WidthFit, room: int, context: int, deploy: Deploy) -> str:
    need = f"{readable(width.fixed_bytes)} before any conversation, of {readable(room)}"
    if width.sequences == 0:
        a_talk = readable(width.memory.kv_bytes_per_sequence)
        return f"Does not fit: {need}, and {a_talk} for one of {context} tokens."
    most = FASTCHAT_AT_ONCE if deploy.engine == "fastchat" else deploy.gateway.max_running
    at_once = min(width.sequences, most, deploy.gateway.max_running)
    conversations = "one conversation" if at_once == 1 else f"{at_once} conversations"
    return f"Fits: {need}; {conversations} of {context} tokens at once."


def _remedies(
    shape: ModelShape,
    deploy: Deploy,
    hardware: Hardware,
    widths: tuple[WidthFit, ...],
    context: int,
) -> tuple[str, ...]:
    eight = next(width for width in widths if width.bits == 8)
    advice = []
    if deploy.device == "cuda" and not hardware.gpus:
        advice.append("deploy.device: cpu, slowly, or name a machine with --gpus.")
    if not deploy.load_8bit and eight.sequences and deploy.gpus == 1:
        advice.append("deploy.load_8bit: true fits.")
    for count in range(2, len(hardware.gpus) + 1):
        spread = serving_memory(shape, 16, context_tokens=context, gpus=count)
        smallest = min(gpu.memory_bytes for gpu in hardware.gpus[:count])
        if deploy.device == "cuda" and spread.sequences_in(smallest):
            advice.append(f"deploy.gpus: {count} with load_8bit: false fits.")
            break
    need = eight.memory.needed_bytes()
    advice.append(f"A device with {readable(need)} takes it in 8 bits, one conversation at a time.")
    return tuple(advice)
