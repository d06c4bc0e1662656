"""LLaMA's norm, rotation and loss in fewer passes over memory, where a CPU trains.

On a CPU half of a training step is passes over activations, not products: transformers' norm and
rotation consist of small operations, each with a pass and a new tensor of its own. Here each is one
function with its own derivative. LLaMA's attention looks the rotation up in its module, so it is
replaced there, as liger-kernel does on a GPU: this process trains one model and nothing else. The
loss never holds the logits of a whole batch. The invariant: values and gradients are transformers',
except for the order of sums and, in 16 bits, for omitted roundings.
"""

from types import MethodType
from typing import Any, cast

import torch
from transformers.models.llama import modeling_llama

Saved = tuple[torch.Tensor, ...]
_CHUNK = 256
"""Tokens whose logits are held at once; with fewer, reading the output layer's weight prevails."""


def fuse_norm_and_rotation(model: torch.nn.Module) -> None:
    """Use the functions below for the model's norms, and for the rotation of every LLaMA here."""
    for module in model.modules():
        if type(module) is modeling_llama.LlamaRMSNorm:
            module.forward = MethodType(_normalized, module)  # type: ignore[method-assign]
    modeling_llama.apply_rotary_pos_emb = rotated


def loss_in_chunks(
    hidden: torch.Tensor, weight: torch.Tensor, following: torch.Tensor, items: Any
) -> torch.Tensor:
    """Return the mean loss of the next tokens in nats, or their sum divided by `items` if given.

    hidden (tokens, width); weight (vocabulary, width); following (tokens,) without ignored ones.
    The result is fp32.
    """
    loss: torch.Tensor = _Loss.apply(hidden, weight, following)  # type: ignore[no-untyped-call]
    return loss / (len(following) if items is None else items)


def rotated(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    unsqueeze_dim: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return query and key, rotated by position: transformers' `apply_rotary_pos_emb`.

    q (B, heads, T, width), k (B, key heads, T, width); cos and sin (B or 1, T, width).
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotation.apply(q, cos, sin), _Rotation.apply(k, cos, sin)  # type: ignore[no-untyped-call]


class _Norm(torch.autograd.Function):
    """w * x / rms(x) over the last dimension, computed in fp32 as transformers does.

    With n = x / rms: dx = (g w - n mean(g w n)) / rms, dw = sum(g n) (arXiv:1910.07467).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        exact = x.float()
        mean_square = torch.linalg.vecdot(exact, exact).unsqueeze(-1).div_(x.shape[-1])
        inverse = mean_square.add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        normed: torch.Tensor = exact * inverse
        return normed.to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, inverse = cast("Saved", ctx.saved_tensors)
        exact, grad_weight = x.float(), None
        if ctx.needs_input_grad[1]:
            normed = (exact * inverse).to(x.dtype)
            grad_weight = (grad * normed).flatten(0, -2).sum(0)
        scaled = (grad * weight).float()
        along = torch.linalg.vecdot(scaled, exact).unsqueeze(-1)
        along.mul_(inverse.pow(3)).div_(-x.shape[-1])
        return scaled.mul_(inverse).addcmul_(exact, along).to(x.dtype), grad_weight, None


class _Loss(torch.autograd.Function):
    """The summed cross-entropy of softmax(hidden weight^T).

    The gradient p - onehot of the logits is known with the loss, so it is carried on at once; to
    the weight, which an adapter leaves frozen, only if needed. The buffers are used again by each
    chunk: in new memory of this size, the system's page faults would take as long as the products.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, following: torch.Tensor
    ) -> torch.Tensor:
        shape = min(_CHUNK, len(hidden)), len(weight)
        exact, log_p = (hidden.new_empty(shape, dtype=torch.float32) for _ in range(2))
        logits = exact if hidden.dtype == exact.dtype else hidden.new_empty(shape)
        loss, grad, grad_weight = exact.new_zeros(()), torch.empty_like(hidden), None
        if ctx.needs_input_grad[1]:
            grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(hidden), _CHUNK):
            rows = slice(start, start + _CHUNK)
            chosen = following[rows, None]
            logits, exact, log_p = (each[: len(chosen)] for each in (logits, exact, log_p))
            torch.mm(hidden[rows], weight.T, out=logits)
            torch.log_softmax(exact.copy_(logits), -1, out=log_p)
            loss -= log_p.gather(1, chosen).sum()
            log_p.exp_().scatter_add_(1, chosen, log_p.new_full(chosen.shape, -1))
            torch.mm(logits.copy_(log_p), weight, out=grad[rows])
            if grad_weight is not None:
                grad_weight += logits.T @ hidden[rows]
        ctx.save_for_backward(grad, grad_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_hidden, of_weight = ctx.saved_tensors
        grad_weight = None if of_weight is None else (of_weight * grad).to(of_hidden.dtype)
        return (of_hidden * grad).to(of_hidden.dtype), grad_weight, None


class _Rotation(torch.autograd.Function):
    """A rotation of the pairs (i, i + width / 2) by their angles; its derivative rotates back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = cast("Saved", ctx.saved_tensors)
        return _turned(grad, cos, -sin), None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def _normalized(self: modeling_llama.LlamaRMSNorm, x: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = _Norm.apply(x, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]
    return normed
