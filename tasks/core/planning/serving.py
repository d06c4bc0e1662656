"""The bytes that serving needs: weights in 16, 8 or 4 bits, and the KV cache of each conversation.

Covers FastChat's worker on one GPU, on several (its layers spread over them), and on the CPU,
where it computes in fp32. 4 bits are not a choice of FastChat's worker here; they show what another
server would need. Not covered: paged caches, which need less for short conversations.
"""

from dataclasses import dataclass
from typing import Literal

from tasks.core.planning.shape import ModelShape
from tasks.core.planning.training import NF4_BITS, Term
from tasks.core.units import GB

Bits = Literal[16, 8, 4]
Device = Literal["cuda", "cpu"]

FASTCHAT_8BIT = 8 + 16 / 256


@dataclass(frozen=True)
class ServingMemory:
    """What the fullest device needs before any conversation, and for each one."""

    bits: Bits
    terms: tuple[Term, ...]
    kv_bytes_per_sequence: int

    @property
    def fixed_bytes(self) -> int:
        """The need without any conversation."""
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
        Term("unpacked", unpacked, "the largest weight, made whole to be used"),
        Term("logits", logits, "of a prompt of full length"),
        Term("runtime", GB, "allowance: CUDA context or Python, activations"),
    )
    kv = kv_cache_bytes(shape, context_tokens, width=width, layers=layers)
    return ServingMemory(bits, tuple(term for term in terms if term.bytes), kv)


def served_weight_bytes(
    shape: ModelShape, bits: Bits, *, device: Device = "cuda", layers: int | None = None
) -> int:
    """Return what the weights of this many decoder layers take, with embedding and head.

    8 bits as FastChat's `compress`: int8 and one 16-bit scale for 256 weights, on every linear
    module with the output projection. 4 bits as NF4 (arXiv:2305.14314), on the decoder layers.
    The CPU has fp32 where a GPU has fp16.
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
