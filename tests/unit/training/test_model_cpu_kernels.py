"""The CPU's norm, rotation and loss against transformers' own: same values, same gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from tasks.core.recipe import Finetune
from tasks.core.training.model.cpu_kernels import (
    fuse_norm_and_rotation,
    loss_in_chunks,
    rotated,
)
from tasks.core.training.model.fused_kernels import fuse_kernels, layer_computation
from tasks.core.training.model.learned_head import learned_only

ROTATION = modeling_llama.apply_rotary_pos_emb
TYPES = [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)]


def made(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()


def gradients(out: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(out, inputs, made(9, *out.shape, dtype=out.dtype).detach())


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
def test_norm_has_transformers_value_and_gradients(dtype: torch.dtype, tolerance: float) -> None:
    norm, plain = LlamaRMSNorm(48, eps=1e-5).to(dtype), LlamaRMSNorm(48, eps=1e-5).to(dtype)
    for each in (norm, plain):
        each.weight.data = made(1, 48, dtype=dtype).detach()
    fuse_norm_and_rotation(torch.nn.ModuleList([norm]))
    x = made(2, 3, 5, 48, dtype=dtype)
    ours, theirs = norm(x), plain(x)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    for mine, their in zip(
        gradients(ours, x, norm.weight), gradients(theirs, x, plain.weight), strict=True
    ):
        torch.testing.assert_close(mine, their, rtol=tolerance, atol=5 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
def test_rotation_has_transformers_value_and_gradients(
    dtype: torch.dtype, tolerance: float
) -> None:
    q, k = made(1, 2, 4, 7, 16, dtype=dtype), made(2, 2, 2, 7, 16, dtype=dtype)
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [5, 6, 7, 8, 9, 10, 11]])
    cos, sin = LlamaRotaryEmbedding(config)(q, positions)
    ours, theirs = rotated(q, k, cos, sin), ROTATION(q, k, cos, sin)
    for mine, their, at in zip(ours, theirs, (q, k), strict=True):
        torch.testing.assert_close(mine, their, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            *gradients(mine, at), *gradients(their, at), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize("items", [None, torch.tensor(17)])
def test_loss_has_transformers_value_and_gradient(
    dtype: torch.dtype, tolerance: float, items: torch.Tensor | None
) -> None:
    """In more chunks than one, of which the last is shorter."""
    hidden, weight = made(1, 600, 24, dtype=dtype), made(2, 50, 24, dtype=dtype).detach()
    following = torch.arange(600) % 50
    ours = loss_in_chunks(hidden, weight, following, items)
    logits = hidden @ weight.T
    theirs = ForCausalLMLoss(
        logits, labels=None, vocab_size=50, num_items_in_batch=items, shift_labels=following
    )
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        *torch.autograd.grad(ours, hidden),
        *torch.autograd.grad(theirs, hidden),
        rtol=tolerance,
        atol=tolerance * float(ours.detach()) / 600,
    )


@pytest.mark.parametrize("items", [None, torch.tensor(17)])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_edited_model_has_the_loss_and_gradients_it_had(
    edited: Path, items: torch.Tensor | None, frozen: bool, precision: Any
) -> None:
    dtype, tolerance = getattr(torch, precision), {"float32": 1e-6, "bfloat16": 2e-3}[precision]
    model: Any = AutoModelForCausalLM.from_pretrained(
        edited, dtype=dtype, trust_remote_code=True
    ).train()
    if frozen:
        model.requires_grad_(False)
        model.model.layers[0].self_attn.q_proj.requires_grad_(True)
    ids = torch.arange(3, 43).reshape(2, 20)
    labels = ids.clone()
    labels[:, :4] = -100
    batch = learned_only({"input_ids": ids, "labels": labels}) | {"num_items_in_batch": items}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before, expected = layer_computation(model), model(**batch).loss
    theirs = torch.autograd.grad(expected, trained)
    fuse_kernels(model, Finetune(device="cpu", precision=precision, zero_stage=2))
    made_of = model(**batch)
    assert made_of.logits is None
    torch.testing.assert_close(made_of.loss, expected, rtol=tolerance, atol=tolerance)
    ours = torch.autograd.grad(made_of.loss, trained)
    torch.testing.assert_close(ours, theirs, rtol=100 * tolerance, atol=tolerance)
    assert layer_computation(model) == before
    assert before.is_alive


def test_output_layer_that_zero_3_gathers_is_called(edited: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(edited, trust_remote_code=True)
    plain = model.forward
    fuse_kernels(model, Finetune(device="cpu", zero_stage=3))
    assert model.forward == plain
    assert "forward" in vars(model.model.norm)
