"""The memory that serving needs, and how many conversations of full length fit at the same time.

Covers an engine as `deploy` starts it, on one GPU, on several (its layers spread over them), and on
the CPU, where it computes in fp32; the other weight widths are shown beside it for comparison.
FastChat's worker has no 4-bit weights here: that row shows what another server would need. Not
covered: paged caches, which need less for short conversations.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from tasks.core.machine.cpu import compute_dtype
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.times import answer_tokens_per_s
from tasks.core.planning.training_memory import NF4_BITS, Term
from tasks.core.recipe import Dtype
from tasks.core.recipe.deploy import FASTCHAT_AT_ONCE, Deploy
from tasks.core.units import GB, readable

Bits = Literal[16, 8, 4]
Device = Literal["cuda", "cpu"]

FASTCHAT_8BIT = 8 + 16 / 256


@dataclass(frozen=True)
class ServingMemory:
    """The need of the fullest device, empty and per conversation."""

    bits: Bits
    terms: tuple[Term, ...]
    kv_bytes_per_sequence: int

    @property
    def fixed_bytes(self) -> int:
        """The need before any conversation."""
        return sum(term.bytes for term in self.terms)

    def needed_bytes(self, sequences: int = 1) -> int:
        """Return the need with this many conversations of full length."""
        return self.fixed_bytes + sequences * self.kv_bytes_per_sequence

    def sequences_in(self, memory_bytes: int) -> int:
        """Return how many conversations of full length fit, 0 when not even one does."""
        return max(0, (memory_bytes - self.fixed_bytes) // self.kv_bytes_per_sequence)


def serving_memory(
    shape: ModelShape, bits: Bits, *, context_tokens: int, device: Device = "cuda", gpus: int = 1
) -> ServingMemory:
    """Return the memory of the fullest GPU, or of the host when device is cpu.

    gpus share the decoder layers; one of them also holds embedding and output projection.
    """
    spread = gpus if device == "cuda" else 1
    layers = -(-shape.layers // spread)
    width = 2 if device == "cuda" else 4
    weights = served_weight_bytes(shape, bits, device=device, layers=layers)
    unpacked = 0 if bits == 16 else max(shape.embedding_params, shape.largest_linear_params) * width
    logits = context_tokens * shape.vocab * width
    terms = (
        Term("weights", weights, f"{bits} bits" if device == "cuda" or bits != 16 else "fp32"),
        Term("unpacked", unpacked, "the largest weight, dequantized to be used"),
        Term("logits", logits, "of a prompt of full length"),
        Term("runtime", GB, "allowance: CUDA context or Python, activations"),
    )
    kv = kv_cache_bytes(shape, context_tokens, width=width, layers=layers)
    return ServingMemory(bits, tuple(term for term in terms if term.bytes), kv)


def served_weight_bytes(
    shape: ModelShape, bits: Bits, *, device: Device = "cuda", layers: int | None = None
) -> int:
    """Return the size of the weights of this many decoder layers, with embedding and head.

    8 bits as in FastChat's `compress`: int8 and one 16-bit scale per 256 weights, for every linear
    module and the output projection. 4 bits as NF4 (arXiv:2305.14314), for the decoder layers. The
    CPU holds in fp32 what a GPU holds in fp16.
    """
    width = 2 if device == "cuda" else 4
    used = shape.layers if layers is None else layers
    all_params = shape.total_params - (shape.layers - used) * shape.layer_params
    linear = shape.layer_linear_params // shape.layers * used
    if bits == 16:
        return all_params * width
    packed, packed_bits = (
        (linear + shape.head_params, FASTCHAT_8BIT) if bits == 8 else (linear, NF4_BITS)
    )
    return int(packed * packed_bits / 8) + (all_params - packed) * width


def kv_cache_bytes(
    shape: ModelShape, context_tokens: int, *, width: int = 2, layers: int | None = None
) -> int:
    """Return 2 * layers * kv_heads * head_dim * tokens * width: keys and values of one sequence.

    Source: PagedAttention, arXiv:2309.06180, section 3.
    """
    used = shape.layers if layers is None else layers
    return 2 * used * shape.kv_width * context_tokens * width


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

    cpu_tokens_per_s: of one answer on the CPU, with weights in 16 or 32 bits; None on a GPU, or if
    the CPU was not measured.
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

    context_factor: the factor by which the edit lengthens the context.
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
        return (
            f"deploy.gpus is {deploy.gpus}; this machine has {len(hardware.gpus) or 'no'} GPU(s)."
        )
    if deploy.load_8bit and deploy.gpus > 1:
        return "FastChat holds 8-bit weights on one GPU only; deploy.gpus asks for more."
    return None


def _beside(width: WidthFit, room: int, deploy: Deploy) -> tuple[str, ...]:
    """Return what to do if the next model does not fit beside this one."""
    if deploy.switch == "replace" or 2 * width.fixed_bytes <= room:
        return ()
    return (
        f"Two models take {readable(2 * width.fixed_bytes)}, so the next one cannot start beside "
        "this one: set deploy.switch: replace, which has a gap, or use a device with more memory.",
    )


def _reason(width: WidthFit, room: int, context: int, deploy: Deploy) -> str:
    need = f"{readable(width.fixed_bytes)} before any conversation, of {readable(room)}"
    if width.sequences == 0:
        one = readable(width.memory.kv_bytes_per_sequence)
        return f"Does not fit: {need}, and {one} for one of {context} tokens."
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
        advice.append("deploy.device: cpu, which is slow; or plan for a machine with GPUs: --gpus.")
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
