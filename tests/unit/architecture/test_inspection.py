import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from tasks.core.architecture.inspection import inspect_model
from tasks.core.errors import NotAModel
from tests.models import tiny_llama


def _rewrite(model: Path, **members: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def _without(model: Path, member: str) -> None:
    path = model / "config.json"
    members = json.loads(path.read_text())
    del members[member]
    path.write_text(json.dumps(members))


def test_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match=r"no config\.json"):
        inspect_model(tmp_path)


def test_foreign_code_is_not_run(edited: Path, tmp_path: Path) -> None:
    code = edited / "modeling_kawan_usaha.py"
    trap = tmp_path / "it ran"
    code.write_text(f"open({str(trap)!r}, 'w')\n" + code.read_text())
    report = inspect_model(edited)
    assert report.edit == "unknown"
    assert report.model_class == "not built"
    assert not trap.exists()


def test_edit_whose_code_is_not_named_is_not_called_alive(edited: Path) -> None:
    _without(edited, "auto_map")
    assert inspect_model(edited).edit == "unknown"


def test_code_of_another_repository_is_named_as_a_problem(edited: Path) -> None:
    _rewrite(edited, auto_map={"AutoModelForCausalLM": "evil/repo--modeling.Evil"})
    (problem,) = inspect_model(edited).problems
    assert "AutoModelForCausalLM: evil/repo--modeling.Evil" in problem


def test_edit_under_the_type_llama_is_lost(edited: Path) -> None:
    """What a loader without trust_remote_code would make of it: the built-in class."""
    _without(edited, "auto_map")
    _rewrite(edited, model_type="llama")
    report = inspect_model(edited)
    assert report.edit == "lost"
    assert [layer.computes for layer in report.layers] == ["silu"] * 3


@pytest.mark.parametrize("sharded", [False, True])
def test_plain_llama_is_described(tmp_path: Path, sharded: bool) -> None:
    model = tiny_llama(tmp_path / "stock", sharded=sharded)
    report = inspect_model(model)
    loaded = LlamaForCausalLM.from_pretrained(model)
    assert report.edit == "none"
    assert report.parameters == sum(p.numel() for p in loaded.parameters())
    assert report.weight_bytes == 2 * report.parameters
    assert report.dtypes == ("F16",)
    assert report.layers[0].mlp_shape == (64, 32)
    assert report.layers[0].parameters == sum(
        p.numel() for p in loaded.model.layers[0].parameters()
    )
    assert report.context_tokens == 2048
    assert report.problems == ()


def test_edited_model_is_alive_layer_by_layer(edited: Path) -> None:
    report = inspect_model(edited)
    assert report.edit == "alive"
    assert report.model_class == "KawanUsahaForCausalLM"
    assert [layer.computes for layer in report.layers] == ["silu", "silu", "gelu"]
    assert json.loads(json.dumps(report.as_json()))["layers"][2]["module"] == "GELUActivation"


def test_tied_head_is_no_problem(tmp_path: Path, edit_into: Callable[..., Path]) -> None:
    assert inspect_model(edit_into(tiny_llama(tmp_path / "stock", tie=True))).problems == ()


def test_tensors_that_do_not_fit_are_named(stock: Path) -> None:
    weights = load_file(stock / "model.safetensors")
    weights["model.layers.0.extra"] = weights.pop("model.norm.weight")
    weights["lm_head.weight"] = weights["lm_head.weight"][:300].clone()
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = weights[
        "model.layers.0.extra"
    ].clone()
    save_file(weights, stock / "model.safetensors", {"format": "pt"})
    assert inspect_model(stock).problems == (
        "model.norm.weight is missing",
        "model.layers.0.extra belongs to no module",
        "lm_head.weight has shape [300, 32] instead of [320, 32]",
    )
