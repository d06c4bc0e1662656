"""liger-kernel on a CPU: what is patched, and that the edit is not. Its kernels need a GPU."""

import importlib.util
import sys
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from tasks.core.errors import EditLost
from tasks.core.recipe import Finetune
from tasks.core.training.model.fused_kernels import (
    fuse_kernels,
    fuse_loss,
    layer_computation,
    liger_loss,
    require_unchanged,
)
from tasks.core.training.model.learned_head import learned_only

GPU = Finetune(device="cuda", zero_stage=2)


@pytest.fixture
def model(edited: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(
        edited, dtype=torch.float32, trust_remote_code=True
    ).train()


def loss_by_hand(
    *,
    hidden_states: torch.Tensor,
    lm_head_weight: torch.Tensor,
    shift_labels: torch.Tensor,
    num_items_in_batch: Any = None,
    **_: Any,
) -> torch.Tensor:
    """Compute what LigerForCausalLMLoss documents, with logits."""
    logits = nn.functional.linear(hidden_states, lm_head_weight).float()
    if num_items_in_batch is None:
        return cross_entropy(logits, shift_labels)
    return cross_entropy(logits, shift_labels, reduction="sum") / num_items_in_batch


@pytest.fixture
def loss_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a loss without a kernel where liger's is imported from, installed or not."""
    names = ["liger_kernel", "transformers", "model", "loss_utils"]
    for end in range(1, len(names) + 1):
        module: Any = ModuleType(".".join(names[:end]))
        module.__path__ = []
        monkeypatch.setitem(sys.modules, module.__name__, module)
    module.LigerForCausalLMLoss = loss_by_hand


def batch() -> dict[str, torch.Tensor]:
    ids = torch.arange(3, 23).reshape(2, 10)
    labels = ids.clone()
    labels[:, :4] = -100
    return {"input_ids": ids, "labels": labels}


def test_a_kernel_that_is_bound_to_an_mlp_is_found_out(model: LlamaForCausalLM) -> None:
    before = layer_computation(model)
    mlp: Any = model.model.layers[1].mlp
    mlp.forward = MethodType(lambda _self, x: x, mlp)
    with pytest.raises(EditLost, match="liger-kernel"):
        require_unchanged(model, before)


def test_an_activation_that_is_replaced_is_found_out(model: LlamaForCausalLM) -> None:
    before = layer_computation(model)
    model.model.layers[-1].mlp.act_fn = nn.SiLU()
    with pytest.raises(EditLost, match="alive: False"):
        require_unchanged(model, before)


def test_without_liger_a_gpu_s_model_is_left_as_it_is(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(vars(model))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    fuse_kernels(model, GPU)
    assert vars(model).keys() == before.keys()


@pytest.mark.usefixtures("loss_on_a_cpu")
@pytest.mark.parametrize("items", [None, torch.tensor(17)])
def test_a_training_loss_without_logits_has_the_same_value_and_gradient(
    model: LlamaForCausalLM, items: torch.Tensor | None
) -> None:
    inputs = learned_only(batch()) | {"num_items_in_batch": items}
    expected = model(**inputs).loss
    expected.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    fuse_loss(model, liger_loss)
    made = model(**inputs)
    made.loss.backward()
    assert made.logits is None
    torch.testing.assert_close(made.loss, expected)
    for ours, theirs in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(ours.grad, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.usefixtures("loss_on_a_cpu")
def test_a_validation_and_a_batch_without_learned_tokens_keep_their_logits(
    model: LlamaForCausalLM,
) -> None:
    fuse_loss(model, liger_loss)
    nothing = batch()
    nothing["labels"].fill_(-100)
    assert model(**learned_only(nothing), num_items_in_batch=torch.tensor(3)).logits is not None
    model.eval()
    assert model(**learned_only(batch())).logits is not None


@pytest.mark.skipif(
    importlib.util.find_spec("liger_kernel") is None, reason="needs liger-kernel and triton"
)
def test_norm_and_rope_are_liger_s_and_the_edited_layer_is_its_own(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("apply_rotary_pos_emb", "LlamaRMSNorm", "LlamaMLP"):
        monkeypatch.setattr(modeling_llama, name, getattr(modeling_llama, name))
    before = layer_computation(model)
    fuse_kernels(model, GPU)
    from liger_kernel.transformers.rms_norm import LigerRMSNorm

    norms: list[Any] = [m for m in model.modules() if isinstance(m, modeling_llama.LlamaRMSNorm)]
    norms = norms or [m for m in model.modules() if hasattr(m, "casting_mode")]
    assert len(norms) == 2 * 2 + 1
    assert all(norm.forward.__func__ is LigerRMSNorm.forward for norm in norms)
    assert modeling_llama.apply_rotary_pos_emb.__module__.startswith("liger_kernel")
    assert layer_computation(model) == before
    assert model.forward.__func__.__module__ == "tasks.core.training.model.fused_kernels"
