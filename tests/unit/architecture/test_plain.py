from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tasks.core.architecture.plain import to_plain_llama
from tasks.core.errors import UsageError
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit

PROMPT = torch.tensor([[1, 40, 71, 102, 133]])
EVERYWHERE = Edit(
    activations=(ActivationEdit(layers=("all",), activation="relu"),),
    rope_scaling=RopeScalingEdit(rope_type="linear", factor=2.0),
)


def _back(model: Path, tmp_path: Path) -> Path:
    out = tmp_path / "plain"
    out.mkdir()
    to_plain_llama(model, out)
    return out


def test_layers_that_differ_cannot_be_said_by_a_plain_llama(edited: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one activation for all(.|\n)*gelu, silu"):
        _back(edited, tmp_path)
    assert not list((tmp_path / "plain").iterdir())


def test_plain_model_stays_as_it_is(stock: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plain LLaMA already"):
        _back(stock, tmp_path)


def test_uniform_edit_becomes_a_plain_llama_that_computes_the_same(
    stock: Path, edit_into: Callable[..., Path], tmp_path: Path
) -> None:
    edited = edit_into(stock, EVERYWHERE)
    plain = _back(edited, tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(plain, trust_remote_code=False)
    assert isinstance(loaded, LlamaForCausalLM)
    assert not list(plain.glob("*.py"))
    ours = AutoModelForCausalLM.from_pretrained(edited, trust_remote_code=True)
    with torch.inference_mode():
        assert torch.equal(loaded(PROMPT).logits, ours(PROMPT).logits)
