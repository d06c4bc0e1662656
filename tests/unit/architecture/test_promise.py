import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tasks.core.architecture.promise import expected_report
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit


def _load(path: Path, **arguments: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, **arguments)


def _keeps_promise(loaded: Any, model: Path) -> bool:
    report, expected = loaded.kawan_usaha_report(), expected_report(model)
    assert expected is not None
    return expected == {name: report.get(name) for name in expected}


def test_replaced_activation_does_not_keep_the_promise(edited: Path) -> None:
    model = _load(edited)
    model.model.layers[-1].mlp.act_fn = torch.nn.SiLU()
    assert not _keeps_promise(model, edited)


def test_model_of_another_edit_does_not_keep_the_promise(
    stock: Path, edited: Path, edit_into: Callable[..., Path]
) -> None:
    other = edit_into(stock, Edit(activations=(ActivationEdit(layers=("all",)),)), "other")
    assert not _keeps_promise(_load(other), edited)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
def test_loaded_model_keeps_the_promise_in_any_precision(
    stock: Path, edit_into: Callable[..., Path], rope_type: Any, half: bool
) -> None:
    edit = Edit(rope_scaling=RopeScalingEdit(rope_type=rope_type, factor=4))
    edited = edit_into(stock, edit)
    model = _load(edited, dtype=torch.float32)
    assert _keeps_promise(model.half() if half else model, edited)


def test_promise_is_kept_by_a_model_whose_logits_do_not_show_the_edit(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    plain = LlamaForCausalLM.from_pretrained(stock)
    with torch.no_grad():
        for parameter in plain.model.layers.parameters():
            parameter.mul_(1e-4)
    plain.save_pretrained(stock)
    edited = edit_into(stock)
    model, prompt = _load(edited), torch.tensor([[1, 40, 71, 102]])
    assert torch.equal(model(prompt).logits, plain(prompt).logits)
    assert _keeps_promise(model, edited)


def test_plain_llama_promises_nothing(stock: Path) -> None:
    assert expected_report(stock) is None


def test_promise_is_plain_json(edited: Path) -> None:
    expected = expected_report(edited)
    assert expected is not None
    assert json.loads(json.dumps(expected)) == expected
    assert expected["activations"] == ["silu", "silu", "gelu"]
