"""Attention by blocks, against torch's and transformers' own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tasks.core.recipe import Finetune
from tasks.core.training.model.base_model import read_base_model
from tasks.core.training.model.cpu_attention import ATTENTION, BLOCK, causal_attention

BFLOAT16 = Finetune(device="cpu", precision="bfloat16", batching="group", zero_stage=0)
LENGTHS = [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5]


def states(tokens: int, dtype: torch.dtype, *, width: int = 16) -> list[torch.Tensor]:
    """Return query, key and value of six heads on three, and a gradient, laid out as LLaMA's."""
    random = torch.Generator().manual_seed(tokens)
    made = [torch.randn(2, tokens, heads, width, generator=random) for heads in (6, 3, 3, 6)]
    return [each.transpose(1, 2).to(dtype).requires_grad_() for each in made]


def value_and_gradients(attention: Any, *given: torch.Tensor) -> list[torch.Tensor]:
    *inputs, grad = given
    out = attention(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def kernel(*inputs: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(*inputs, is_causal=True, enable_gqa=True)


def exact(*given: torch.Tensor) -> list[torch.Tensor]:
    return value_and_gradients(kernel, *(each.double() for each in given))


@pytest.mark.parametrize("tokens", LENGTHS)
def test_blocks_have_the_value_and_gradients_of_the_whole(tokens: int) -> None:
    given = states(tokens, torch.float64)
    ours = value_and_gradients(causal_attention, *given)
    for mine, theirs in zip(ours, exact(*given), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)  # sums in fp32


@pytest.mark.parametrize("tokens", LENGTHS)
def test_16_bits_round_no_more_than_torchs_kernel_does(tokens: int) -> None:
    given = states(tokens, torch.bfloat16, width=64)
    expected = exact(*given)

    def worst(attention: Any) -> float:
        found = value_and_gradients(attention, *given)
        pairs = list(zip(found, expected, strict=True))
        return max(float((mine - right).norm() / (right.norm() + 1e-9)) for mine, right in pairs)

    assert worst(causal_attention) < max(1.5 * worst(kernel), 5e-3)


def test_scale_is_the_given_one() -> None:
    given = states(9, torch.float64)
    ours = causal_attention(*given[:3], scale=0.5)
    theirs = scaled_dot_product_attention(*given[:3], is_causal=True, enable_gqa=True, scale=0.5)
    torch.testing.assert_close(ours, theirs)


def test_only_16_bits_on_a_cpu_get_it(edited: Path) -> None:
    def attention(**changed: object) -> str:
        settings = BFLOAT16.model_copy(update=changed)
        found = read_base_model(edited, settings, torch.device("cpu")).config._attn_implementation
        return str(found)

    assert attention() == ATTENTION
    assert attention(batching="pad") == ATTENTION
    assert attention(precision="float32") == "sdpa"
    assert attention(batching="pack") != ATTENTION  # which computes each conversation by it


def test_a_mask_and_dropout_are_heeded(edited: Path) -> None:
    model: Any = read_base_model(edited, BFLOAT16, torch.device("cpu"))
    ids = torch.arange(3, 23)[None]
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    found = model(input_ids=ids, attention_mask=mask).logits
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(found, model(input_ids=ids, attention_mask=mask).logits)
    assert not torch.equal(found, model(input_ids=ids).logits)
    query, key, value, _ = states(BLOCK, torch.bfloat16)
    dropped = causal_attention(query, key, value, dropout=0.9)
    assert not torch.allclose(dropped, causal_attention(query, key, value))
