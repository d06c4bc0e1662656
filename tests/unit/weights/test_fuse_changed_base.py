"""PiSSA and OLoRA train against a changed base; it is computed again, or the adapter is refused."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tasks.core.errors import AdapterMismatch, CorruptWeights
from tasks.core.weights.fuse import fuse_adapter
from tasks.core.weights.low_rank import subtracted_factors
from tests.unit.weights.adapters import (
    assert_within_one_rounding,
    configure,
    fused_by_peft,
    loaded,
    rewrite,
    train,
)
from tests.unit.weights.models import (
    base_model,
    gpt2,
    same_bits,
    save,
    small_base_model,
    state_dict_of,
)


@pytest.fixture
def model(tmp_path) -> Path:
    return base_model(tmp_path / "model", dtype="float32")


OPTIONS = {
    "plain": {},
    "wide and narrow": {"target_modules": ["k_proj", "down_proj", "up_proj"]},
    "alpha": {"lora_alpha": 1},
    "rslora": {"use_rslora": True, "lora_alpha": 3},
    "rank pattern": {"rank_pattern": {"layers.1.self_attn.q_proj": 2}},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
}


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_an_adapter_is_fused_onto_the_base_that_it_was_trained_on(
    tmp_path, monkeypatch, start, options
):
    model = small_base_model(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter", init_lora_weights=start, **options)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.core.weights.layout.PIECE_BYTES", 100)
        patch.setattr("tasks.core.weights.fusing.PIECE_BYTES", 1000)
        fuse_adapter(model, adapter, tmp_path / "out", threads=1)
    ours, theirs = state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    assert_within_one_rounding(model, ours, theirs, more=2)
    configure(adapter, "adapter_config.json", init_lora_weights=True)
    fuse_adapter(model, adapter, tmp_path / "plain")
    plain = state_dict_of(tmp_path / "plain")
    name = "model.layers.0.self_attn.q_proj.weight"
    if name.split(".")[-2] in str(options.get("target_modules", "q_proj")):
        assert (plain[name] - theirs[name]).abs().max() > 0.01  # the plain sum is another model


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("form", ["many", "bins"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_changed_base_is_rounded_as_it_was_in_training(tmp_path, dtype, form, start):
    """The base that was trained on is in 16 bits: a rounding more than the sum's."""
    model = base_model(tmp_path / "model", dtype=dtype, form=form)
    adapter = train(model, tmp_path / "adapter", init_lora_weights=start)
    fuse_adapter(model, adapter, tmp_path / "out")
    ours, theirs = state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    assert_within_one_rounding(model, ours, theirs, more=2)


def test_pissa_on_conv1d_is_taken_off_transposed(tmp_path):
    model = gpt2(tmp_path / "model", tie_word_embeddings=False)
    adapter = train(
        model, tmp_path / "adapter", init_lora_weights="pissa", target_modules=["c_attn", "c_proj"]
    )
    fuse_adapter(model, adapter, tmp_path / "out")
    ours, theirs = state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    assert_within_one_rounding(model, ours, theirs, more=2)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_adapter_that_peft_converted_to_plain_lora_is_fused_as_one(tmp_path, model, start):
    """save_pretrained(path_initial_model_for_weight_conversion=...): rank and alpha are doubled."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], init_lora_weights=start)
    peft_model = get_peft_model(loaded(model), config)
    initial, adapter = tmp_path / "initial", tmp_path / "adapter"
    peft_model.peft_config["default"].init_lora_weights = True
    peft_model.save_pretrained(initial)
    peft_model.peft_config["default"].init_lora_weights = start
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            parameter.data.add_(0.05 * torch.ones_like(parameter))
    trained = dict(peft_model.merge_and_unload(safe_merge=True).state_dict())
    peft_model = get_peft_model(loaded(model), config)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            parameter.data.add_(0.05 * torch.ones_like(parameter))
    peft_model.save_pretrained(adapter, path_initial_model_for_weight_conversion=str(initial))
    fuse_adapter(model, adapter, tmp_path / "out")
    ours = state_dict_of(tmp_path / "out")
    assert_within_one_rounding(model, ours, fused_by_peft(model, adapter))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, trained[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start", ["eva", "orthogonal", "mica", "gaussian", False])
def test_a_start_that_leaves_the_base_alone_is_plain_lora(tmp_path, model, start):
    adapter = train(model, tmp_path / "adapter")
    fuse_adapter(model, adapter, tmp_path / "plain")
    configure(adapter, "adapter_config.json", init_lora_weights=start)
    fuse_adapter(model, adapter, tmp_path / "out")
    assert same_bits(state_dict_of(tmp_path / "plain"), state_dict_of(tmp_path / "out"))
    assert_within_one_rounding(
        model, state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    )


@pytest.mark.parametrize(
    ("start", "cause"),
    [
        ("pissa_niter_16", "at random"),
        ("corda", "calibration data"),
        ("loftq", "quantized"),
        ("lora_ga", "gradients"),
        ("a_start_of_tomorrow", "there is no rule for fusing it"),
    ],
)
def test_a_base_that_cannot_be_computed_again_is_refused_by_name(tmp_path, model, start, cause):
    adapter = train(model, tmp_path / "adapter")
    configure(adapter, "adapter_config.json", init_lora_weights=start)
    with pytest.raises(AdapterMismatch, match=cause) as refused:
        fuse_adapter(model, adapter, tmp_path / "out")
    assert f"init_lora_weights={start!r}" in str(refused.value)
    converts = "path_initial_model_for_weight_conversion" in str(refused.value.next_step)
    assert converts == (cause != "there is no rule for fusing it")
    assert not (tmp_path / "out").exists()


def test_olora_on_conv1d_is_refused(tmp_path):
    """PEFT decomposes the weight as it is stored, (in, out), and cannot use what it gets."""
    model = gpt2(tmp_path / "model", tie_word_embeddings=False)
    adapter = train(model, tmp_path / "adapter", target_modules=["c_attn"])
    configure(adapter, "adapter_config.json", init_lora_weights="olora")
    with pytest.raises(AdapterMismatch, match=r"stored \(in, out\)"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_a_base_in_64_bits_is_refused(tmp_path):
    """PEFT does not train so: rounded to which type, the base was trained on is not known."""
    model = base_model(tmp_path / "model", dtype="float64")
    adapter = train(model, tmp_path / "adapter")
    configure(adapter, "adapter_config.json", init_lora_weights="pissa")
    with pytest.raises(AdapterMismatch, match="F64"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_a_weight_with_nan_is_told_before_it_is_decomposed(tmp_path, model):
    adapter = train(model, tmp_path / "adapter", init_lora_weights="pissa")
    weights = state_dict_of(model)
    weights["model.layers.1.self_attn.q_proj.weight"][0, 0] = float("nan")
    save(model, weights)
    with pytest.raises(CorruptWeights, match=r"layers\.1\.self_attn\.q_proj"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_layers_that_are_missing_are_refused_as_for_plain_lora(tmp_path, model):
    adapter = train(model, tmp_path / "adapter", init_lora_weights="pissa")
    rewrite(adapter, lambda t: {n: v for n, v in t.items() if ".0." in n})
    with pytest.raises(AdapterMismatch, match="found: 2 without one"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_each_weight_is_decomposed_once_whatever_threads_ask_for_it(tmp_path, model, monkeypatch):
    adapter = train(model, tmp_path / "adapter", init_lora_weights="pissa")
    decomposed = []

    def counted(change, weight, rank, scale):
        decomposed.append(weight.shape)
        return subtracted_factors(change, weight, rank, scale)

    monkeypatch.setattr("tasks.core.weights.fusing.subtracted_factors", counted)
    monkeypatch.setattr("tasks.core.weights.layout.PIECE_BYTES", 100)
    fuse_adapter(model, adapter, tmp_path / "out", threads=8)
    assert len(decomposed) == 3  # q_proj of three layers


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_the_bits_do_not_depend_on_the_threads(tmp_path, monkeypatch, start):
    """Which wait for each other most where pieces are small: elsewhere one thread writes these."""
    model = small_base_model(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter", init_lora_weights=start, use_dora=True)
    monkeypatch.setattr("tasks.core.weights.layout.PIECE_BYTES", 100)
    monkeypatch.setattr("tasks.core.weights.fusing.PIECE_BYTES", 1000)
    for threads in (1, 8):
        fuse_adapter(model, adapter, tmp_path / str(threads), threads=threads)
    assert same_bits(state_dict_of(tmp_path / "1"), state_dict_of(tmp_path / "8"))
