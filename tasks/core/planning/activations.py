"""The activations and working memory of one micro batch of LoRA training.

Covers transformers' LLaMA with fused attention (`sdpa` or flash), PEFT's LoRA on frozen linear
modules, per-layer gradient checkpointing and the fp32 cross-entropy. Follows the accounting of
Korthikanti et al., arXiv:2205.05198, section 4, changed where LLaMA with frozen weights differs:
a frozen linear module keeps no input, RMSNorm keeps an fp32 copy, the MLP is gated, and fused
attention keeps no scores. Eager attention (heads * length more bytes per token) is not covered.

The invariant: per token and layer the count equals, to the byte, what autograd keeps; a test
compares it with a real model.
"""

from tasks.core.errors import RecipeError
from tasks.core.planning.batch import micro_batch_tokens
from tasks.core.planning.shape import DTYPE_BYTES, LINEAR_NAMES, LinearName, ModelShape
from tasks.core.recipe import Finetune, Lora

_FP32 = 4
_SHARED_INPUT: tuple[tuple[LinearName, ...], ...] = (
    ("q_proj", "k_proj", "v_proj"),
    ("gate_proj", "up_proj"),
)


def lora_targets(lora: Lora) -> tuple[LinearName, ...]:
    """Return the linear modules of a layer that get an adapter.

    Raises RecipeError for a name that no LLaMA layer has.
    """
    if lora.target_modules == "all-linear":
        return LINEAR_NAMES
    unknown = sorted(set(lora.target_modules) - set(LINEAR_NAMES))
    if unknown:
        raise RecipeError(
            "LoRA targets a module that LLaMA does not have.",
            where="finetune.lora.target_modules",
            expected=", ".join(LINEAR_NAMES),
            found=", ".join(unknown),
        )
    return tuple(name for name in LINEAR_NAMES if name in lora.target_modules)


def kept_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return the bytes that a micro batch keeps from its forward to its backward pass.

    With gradient checkpointing each layer keeps only its input (arXiv:2205.05198, section 5);
    without, everything that its backward pass reads. The final norm keeps its fp32 input in both
    cases.
    """
    if finetune.gradient_checkpointing:
        layer = DTYPE_BYTES[finetune.precision] * shape.hidden
    else:
        layer = layer_kept_bytes_per_token(shape, finetune)
    return micro_batch_tokens(finetune) * (shape.layers * layer + _norm_bytes_per_token(shape))


def working_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return the largest temporary need: that of the loss, or of one layer's backward pass.

    They never coincide: the loss is finished before the first layer's backward pass begins.
    """
    return max(loss_bytes(shape, finetune), layer_backward_bytes(shape, finetune))


def loss_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return the peak of the cross-entropy: three fp32 tensors (tokens, vocab).

    They are the log-probabilities, their gradient, and the gradient of the logits, all alive in
    log_softmax's backward. transformers casts the logits to fp32 for any training dtype
    (`loss_utils.ForCausalLMLoss`).
    """
    return micro_batch_tokens(finetune) * 3 * _FP32 * shape.vocab


def layer_backward_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return what one layer's backward pass needs on top of the kept activations.

    The gradients of the gated MLP are three tensors of its inner width, those of a norm five fp32
    tensors of the hidden width; the larger counts. With checkpointing the layer's recomputed
    activations are added.
    """
    inner = 3 * DTYPE_BYTES[finetune.precision] * shape.intermediate
    gradients = max(inner, 5 * _FP32 * shape.hidden)
    again = layer_kept_bytes_per_token(shape, finetune) if finetune.gradient_checkpointing else 0
    return micro_batch_tokens(finetune) * (again + gradients)


def layer_kept_bytes_per_token(shape: ModelShape, finetune: Finetune) -> int:
    """Return the bytes that one layer keeps for one token without checkpointing.

    Two norms; query, key and value after the rotation, the attention's output and its fp32
    log-sum-exp per head; the MLP's gate before and after the activation, and its other factor;
    the inputs of LoRA's matrices.
    """
    width = DTYPE_BYTES[finetune.precision]
    attention = width * (2 * shape.query_width + 2 * shape.kv_width) + _FP32 * shape.heads
    mlp = 3 * width * shape.intermediate
    lora = _lora_bytes_per_token(shape, finetune)
    return 2 * _norm_bytes_per_token(shape) + attention + mlp + lora


def _norm_bytes_per_token(shape: ModelShape) -> int:
    return _FP32 * shape.hidden + _FP32  # the fp32 input and one reciprocal root


def _lora_bytes_per_token(shape: ModelShape, finetune: Finetune) -> int:
    """Return what the adapters of one layer keep: the inputs of their matrices A and B.

    Dropout copies the input for each adapter and keeps its mask: one byte per element on CUDA, one
    value in the training dtype on the CPU. Without dropout, adapters on the same input share it,
    and o_proj's input is already kept by the attention.
    """
    width = DTYPE_BYTES[finetune.precision]
    targets = lora_targets(finetune.lora)
    low_rank = width * finetune.lora.r * len(targets)
    if finetune.lora.dropout > 0:
        mask = 1 if finetune.device == "cuda" else width
        return low_rank + sum((width + mask) * shape.linear(name)[0] for name in targets)
    shared = sum(
        width * shape.hidden for group in _SHARED_INPUT if any(name in targets for name in group)
    )
    down = width * shape.intermediate if "down_proj" in targets else 0
    return low_rank + shared + down
