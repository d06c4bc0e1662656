"""The edited directory in transformers itself: every way to load it, and to write it again."""

# mypy: allow-untyped-calls

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    LlamaForCausalLM,
    PreTrainedModel,
)

from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit
from tests.models import tiny_llama

PROMPT = torch.tensor([[1, 40, 71, 102, 133, 164, 195, 226]])


def _load(path: Path, **arguments: object) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, **arguments)


def _reference(stock: Path, **arguments: Any) -> Any:
    """Return stock LLaMA with the last layer's activation replaced in memory."""
    model: Any = LlamaForCausalLM.from_pretrained(stock, **arguments)
    model.model.layers[-1].mlp.act_fn = torch.nn.GELU(approximate="none")
    return model


def _logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(PROMPT, use_cache=False).logits
    return logits


def _alive(model: Any) -> bool:
    report = model.kawan_usaha_report()
    return bool(report["alive"]) and report["activations"] == ["silu", "silu", "gelu"]


def test_edit_in_memory_is_lost_on_save(stock: Path, tmp_path: Path) -> None:
    """The original edit: nothing warns, and what is saved is the plain model."""
    edited = _reference(stock)
    edited.save_pretrained(tmp_path / "saved")
    again: Any = LlamaForCausalLM.from_pretrained(tmp_path / "saved")
    assert type(again.model.layers[-1].mlp.act_fn).__name__ == "SiLUActivation"
    assert not torch.equal(_logits(again), _logits(edited))
    assert torch.equal(_logits(again), _logits(LlamaForCausalLM.from_pretrained(stock)))


@pytest.mark.parametrize("loader", [AutoConfig, AutoModel, AutoModelForCausalLM])
def test_without_trust_remote_code_loading_fails(edited: Path, loader: Any) -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        loader.from_pretrained(edited, trust_remote_code=False)


def test_configuration_for_other_layers_than_the_model_has_is_refused(edited: Path) -> None:
    with pytest.raises(ValueError, match="names 3 layers, but num_hidden_layers is 2"):
        _load(edited, num_hidden_layers=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_computes_what_stock_llama_edited_in_memory_does(
    stock: Path, edited: Path, dtype: torch.dtype
) -> None:
    model = _load(edited, dtype=dtype)
    assert _alive(model)
    assert model.dtype == dtype
    assert torch.equal(_logits(model), _logits(_reference(stock, dtype=dtype)))
    plain = LlamaForCausalLM.from_pretrained(stock, dtype=dtype)
    assert not torch.equal(_logits(model), _logits(plain))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_interface_is_llama_s(stock: Path, edited: Path, attention: str) -> None:
    model = _load(edited, attn_implementation=attention)
    assert torch.equal(_logits(model), _logits(_reference(stock, attn_implementation=attention)))


def test_generates_as_the_reference_does(stock: Path, edited: Path) -> None:
    answers = [
        model.generate(PROMPT, max_new_tokens=12, do_sample=False)
        for model in (_load(edited), _reference(stock))
    ]
    assert torch.equal(*answers)


@pytest.mark.parametrize(("sharded", "tie"), [(True, False), (False, True)])
def test_shards_and_tied_embeddings_load(
    tmp_path: Path, edit_into: Callable[..., Path], sharded: bool, tie: bool
) -> None:
    stock = tiny_llama(tmp_path / "stock", sharded=sharded, tie=tie)
    edited = edit_into(stock)
    model, info = _load(edited, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(_logits(model), _logits(_reference(stock)))


def test_meta_device_makes_the_edited_layers_without_weights(edited: Path) -> None:
    config = AutoConfig.from_pretrained(edited, trust_remote_code=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert _alive(model)


def test_accelerate_s_empty_weights_make_the_edited_layers(edited: Path) -> None:
    config = AutoConfig.from_pretrained(edited, trust_remote_code=True)
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert _alive(model)


def test_device_map_places_it(stock: Path, edited: Path) -> None:
    model = _load(edited, device_map={"": "cpu"})
    assert _alive(model)
    assert torch.equal(_logits(model), _logits(_reference(stock)))


def test_offloaded_layers_keep_the_edit(stock: Path, edited: Path, tmp_path: Path) -> None:
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    places |= {"lm_head": "cpu", "model.layers.0": "cpu", "model.layers.1": "cpu"}
    model = _load(
        edited, device_map={**places, "model.layers.2": "disk"}, offload_folder=tmp_path / "off"
    )
    assert _alive(model)
    assert torch.equal(_logits(model), _logits(_reference(stock)))


def test_saved_again_it_is_the_same_model_with_its_code(edited: Path, tmp_path: Path) -> None:
    model = _load(edited)
    model.save_pretrained(tmp_path / "again")
    for name in ("configuration_kawan_usaha.py", "modeling_kawan_usaha.py"):
        assert (tmp_path / "again" / name).read_bytes() == (edited / name).read_bytes()
    again = _load(tmp_path / "again")
    assert _alive(again)
    assert again.config.auto_map == model.config.auto_map
    assert torch.equal(_logits(again), _logits(model))


def test_decoder_without_head_carries_the_edit(edited: Path) -> None:
    """Engines that bring their own head, vLLM's transformers backend for one, load AutoModel."""
    model = AutoModel.from_pretrained(edited, trust_remote_code=True)
    assert type(model).__name__ == "KawanUsahaModel"
    assert _alive(model)


def test_follows_every_convention_that_llama_follows(edited: Path, stock: Path) -> None:
    ours, llama = _load(edited), LlamaForCausalLM.from_pretrained(stock)
    names = [name for name in dir(LlamaForCausalLM) if name.startswith(("_supports", "_can_"))]
    names += ["_no_split_modules", "_skip_keys_device_placement", "_tied_weights_keys"]
    names += ["base_model_prefix", "supports_gradient_checkpointing", "tp_plan", "pp_plan"]
    assert len(names) > 10
    for name in names:
        expected = getattr(llama, name)
        if not inspect.ismethod(expected):
            assert getattr(ours, name) == expected, name
    assert ours.config.base_model_tp_plan == llama.config.base_model_tp_plan
    assert ours.is_backend_compatible()
    assert isinstance(ours, PreTrainedModel)


def test_report_shows_an_activation_that_was_replaced_after_loading(edited: Path) -> None:
    model = _load(edited)
    model.model.layers[-1].mlp.act_fn = torch.nn.SiLU()
    report = model.kawan_usaha_report()
    assert report["activations"] == ["silu", "silu", "silu"]
    assert not report["alive"]


def test_report_shows_an_activation_that_has_no_declared_name(edited: Path) -> None:
    model = _load(edited)
    model.model.layers[0].mlp.act_fn = torch.nn.Tanh()
    assert model.kawan_usaha_report()["activations"] == [None, "silu", "gelu"]


def test_report_shows_frequencies_that_are_not_those_of_the_configuration(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    scaled = Edit(activations=(), rope_scaling=RopeScalingEdit(rope_type="dynamic", factor=4.0))
    model = _load(edit_into(stock, scaled))
    assert model.kawan_usaha_report()["rope_alive"]
    model.model.rotary_emb = LlamaForCausalLM.from_pretrained(stock).model.rotary_emb
    assert not model.kawan_usaha_report()["alive"]


def test_report_leaves_the_model_as_it_was(stock: Path, edit_into: Callable[..., Path]) -> None:
    edit = Edit(
        activations=(ActivationEdit(),),
        rope_scaling=RopeScalingEdit(rope_type="dynamic", factor=4.0),
    )
    model = _load(edit_into(stock, edit))
    before = _logits(model)
    model.kawan_usaha_report()
    assert torch.equal(_logits(model), before)


def test_report_gives_values_that_only_gelu_has(edited: Path) -> None:
    report = _load(edited).kawan_usaha_report()
    x = torch.tensor(report["points"])
    gelu = 0.5 * x * (1 + torch.erf(x / 2**0.5))
    assert torch.allclose(torch.tensor(report["values"][-1]), gelu, atol=1e-5)
    assert not torch.allclose(torch.tensor(report["values"][0]), gelu, atol=1e-3)
