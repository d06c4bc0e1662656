"""A fused model is PEFT's merge_and_unload within one rounding, or the adapter is refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tasks.core.errors import AdapterMismatch, NotAModel
from tasks.core.files import digest_of
from tasks.core.weights.fuse import fuse
from tests.unit.weights.models import StateDict, base_model, same_bits, save, state_dict_of


def _train(model: Path, path: Path, *, safe: bool = True, **options: object) -> Path:
    """Save an adapter whose every trainable weight was moved at random, as after a training."""
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], **options})
    peft_model = get_peft_model(AutoModelForCausalLM.from_pretrained(model, dtype="auto"), config)
    generator = torch.Generator().manual_seed(5)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_((0.05 * noise).to(parameter.dtype))
    peft_model.save_pretrained(path)
    if not safe:
        torch.save(load_file(path / "adapter_model.safetensors"), path / "adapter_model.bin")
        (path / "adapter_model.safetensors").unlink()
    return path


def _fused_by_peft(model: Path, adapter: Path) -> StateDict:
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    return dict(PeftModel.from_pretrained(loaded, adapter).merge_and_unload().state_dict())


def _assert_within_one_rounding(model: Path, ours: StateDict, theirs: StateDict) -> None:
    """Check that no weight is further from PEFT's than one unit in the last place of its terms.

    The terms are the weight before and its change: for embeddings PEFT rounds the change itself.
    In float32 the order of the sums in B @ A shows too: some roundings of products below 0.1.
    """
    before = state_dict_of(model)
    assert ours.keys() == theirs.keys() == before.keys()
    for name, tensor in ours.items():
        expected, info = theirs[name], torch.finfo(tensor.dtype)
        assert tensor.dtype == expected.dtype
        start, end = before[name].double(), expected.double()
        largest = torch.stack([start.abs(), end.abs(), (end - start).abs()]).amax(0)
        smallest, roundings = (0.1, 4) if tensor.dtype == torch.float32 else (info.tiny, 1)
        allowed = roundings * info.eps * largest.clamp(min=smallest)
        assert bool(((tensor.double() - end).abs() <= allowed).all()), name


def _configure(directory: Path, file: str, **fields: object) -> None:
    path = directory / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def model(tmp_path) -> Path:
    return base_model(tmp_path / "model")


@pytest.mark.parametrize("form", ["one", "many", "bins"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_dtype_and_form_is_fused_as_peft_does(tmp_path, monkeypatch, dtype, form):
    model = base_model(tmp_path / "model", dtype=dtype, form=form)
    adapter = _train(model, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    monkeypatch.setattr("tasks.core.weights.layout.PIECE_BYTES", 1000)  # rows in several pieces
    fuse(model, adapter, tmp_path / "out")
    ours = state_dict_of(tmp_path / "out")
    _assert_within_one_rounding(model, ours, _fused_by_peft(model, adapter))
    assert not same_bits(ours, state_dict_of(model))


OPTIONS = {
    "alpha": {"lora_alpha": 32},
    "rank pattern": {"rank_pattern": {"layers.1.self_attn.q_proj": 2, "^model.layers.0.*": 6}},
    "alpha pattern": {"alpha_pattern": {"q_proj": 3}, "target_modules": ["q_proj", "v_proj"]},
    "rslora": {"use_rslora": True},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head"]},
    "all linear": {"target_modules": "all-linear"},
    "modules to save": {"modules_to_save": ["lm_head", "norm"]},
    "gaussian start": {"init_lora_weights": "gaussian"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_option_of_peft_means_the_same_here(tmp_path, model, options):
    adapter = _train(model, tmp_path / "adapter", **options)
    fuse(model, adapter, tmp_path / "out")
    ours = state_dict_of(tmp_path / "out")
    _assert_within_one_rounding(model, ours, _fused_by_peft(model, adapter))
    assert not same_bits(ours, state_dict_of(model))


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_replace_those_of_the_model(tmp_path, model, bias):
    _configure(model, "config.json", attention_bias=True)
    AutoModelForCausalLM.from_pretrained(model, dtype="auto").save_pretrained(model)
    adapter = _train(model, tmp_path / "adapter", bias=bias)
    fuse(model, adapter, tmp_path / "out")
    ours = state_dict_of(tmp_path / "out")
    _assert_within_one_rounding(model, ours, _fused_by_peft(model, adapter))
    name = "model.layers.0.self_attn.q_proj.bias"
    assert not torch.equal(ours[name], state_dict_of(model)[name])


def test_weights_stored_in_by_out_are_fused_transposed(tmp_path):
    config = GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50, tie_word_embeddings=False)
    model = tmp_path / "model"
    GPT2LMHeadModel(config).save_pretrained(model)
    adapter = _train(model, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    fuse(model, adapter, tmp_path / "out")
    _assert_within_one_rounding(
        model, state_dict_of(tmp_path / "out"), _fused_by_peft(model, adapter)
    )


def test_an_adapter_stored_as_bin_gives_the_same_bits(tmp_path, model):
    fuse(model, _train(model, tmp_path / "safe"), tmp_path / "one")
    fuse(model, _train(model, tmp_path / "bin", safe=False), tmp_path / "two")
    assert same_bits(state_dict_of(tmp_path / "one"), state_dict_of(tmp_path / "two"))


def test_what_the_adapter_does_not_name_keeps_its_bits(tmp_path, model):
    fuse(model, _train(model, tmp_path / "adapter"), tmp_path / "out")
    before, after = state_dict_of(model), state_dict_of(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.layers.{i}.self_attn.q_proj.weight" for i in range(3)}


def test_every_other_file_of_the_model_is_carried_over(tmp_path, model):
    _configure(model, "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    (model / "modeling_own.py").write_text("own = 1\n")
    (model / "code").mkdir()
    (model / "code" / "part.py").write_text("part = 1\n")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (model / "manifest.json").write_text("{}")
    (model / ".cache").mkdir()
    (model / ".cache" / "junk").touch()
    written = fuse(model, _train_on_copy(tmp_path), tmp_path / "out")
    out = tmp_path / "out"
    for name in ("config.json", "modeling_own.py", "code/part.py", "chat_template.jinja"):
        assert (out / name).read_bytes() == (model / name).read_bytes()
        assert not (out / name).samefile(model / name)
    on_disk = {str(p.relative_to(out)): digest_of(p) for p in out.rglob("*") if p.is_file()}
    assert written.files == on_disk
    assert not {"manifest.json", ".cache/junk"} & on_disk.keys()


def _train_on_copy(tmp_path: Path) -> Path:
    """Train on the same weights under the plain architecture, whose class is known here."""
    return _train(base_model(tmp_path / "plain"), tmp_path / "adapter")


UNSUPPORTED = {
    "use_dora": {"use_dora": True},
    "lora_bias": {"lora_bias": True},
    "target_parameters": {"target_parameters": ["mlp.gate_proj.weight"]},
    "trainable_token_indices": {"trainable_token_indices": [1, 2]},
    "layer_replication": {"layer_replication": [[0, 2], [1, 3]]},
    "init_lora_weights": {"init_lora_weights": "pissa"},
    "alora_invocation_tokens": {"alora_invocation_tokens": [1]},
    "a_feature_of_tomorrow": {"a_feature_of_tomorrow": 1},
}


@pytest.mark.parametrize(("name", "fields"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_a_feature_that_cannot_be_fused_is_refused_by_its_name(tmp_path, model, name, fields):
    adapter = _train(model, tmp_path / "adapter")
    _configure(adapter, "adapter_config.json", **fields)
    with pytest.raises(AdapterMismatch, match=name):
        fuse(model, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"r": 0}, "greater than or equal to 1"),
        ({"bias": "some"}, "bias"),
        ({"r": 5}, "rank 5 is configured"),
        ({"fan_in_fan_out": True}, "v_proj"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, model, fields, match):
    adapter = _train(model, tmp_path / "adapter", target_modules=["v_proj"])
    _configure(adapter, "adapter_config.json", **fields)
    with pytest.raises(AdapterMismatch, match=match):
        fuse(model, adapter, tmp_path / "out")


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("removed", "added", "match"),
    [
        (f"{Q}.lora_A.weight", {}, "A or B is missing"),
        (None, {f"{Q}.lora_magnitude_vector": (32,)}, "DoRA"),
        (None, {f"{Q}.lora_B.bias": (32,)}, "lora_bias"),
        (None, {"model.norm.weight": (32,)}, "does not begin with"),
        (None, {"base_model.model.model.norm.weight": (31,)}, r"is for \[31\]"),
        (None, {"base_model.model.model.ghost.weight": (1,)}, "has no model.ghost.weight"),
        (
            None,
            {f"{Q[:-6]}x.lora_A.weight": (4, 32), f"{Q[:-6]}x.lora_B.weight": (32, 4)},
            "has no",
        ),
        (f"{Q}.lora_B.weight", {f"{Q}.lora_B.weight": (48, 4)}, r"is for \[48, 32\]"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(tmp_path, model, removed, added, match):
    adapter = _train(model, tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors.pop(removed, None)
    tensors |= {name: torch.zeros(shape) for name, shape in added.items()}
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(AdapterMismatch, match=match):
        fuse(model, adapter, tmp_path / "out")


@pytest.mark.parametrize(
    "options", [{"target_modules": ["embed_tokens"]}, {"modules_to_save": ["lm_head"]}]
)
def test_an_adapter_on_tied_embeddings_is_refused(tmp_path, model, options):
    adapter = _train(model, tmp_path / "adapter", **options)
    _configure(model, "config.json", tie_word_embeddings=True)
    with pytest.raises(AdapterMismatch, match="ties its embeddings"):
        fuse(model, adapter, tmp_path / "out")


def test_a_directory_without_an_adapter_is_refused(tmp_path, model):
    with pytest.raises(AdapterMismatch, match=r"adapter_config\.json"):
        fuse(model, model, tmp_path / "out")


def test_an_adapter_without_weights_is_refused(tmp_path, model):
    adapter = _train(model, tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(NotAModel, match="adapter_model"):
        fuse(model, adapter, tmp_path / "out")


def test_an_adapter_on_integer_weights_is_refused(tmp_path, model):
    adapter = _train(model, tmp_path / "adapter")
    state_dict = state_dict_of(model)
    name = "model.layers.0.self_attn.q_proj.weight"
    save(model, state_dict | {name: state_dict[name].to(torch.int8)})
    with pytest.raises(AdapterMismatch, match="I8"):
        fuse(model, adapter, tmp_path / "out")
