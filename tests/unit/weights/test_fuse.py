"""A fused model is PEFT's merge_and_unload within one rounding, or the adapter is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.core.errors import AdapterMismatch, NotAModel
from tasks.core.files.digests import digest_of
from tasks.core.weights.fuse import fuse_adapter
from tasks.core.weights.orientation import CONV1D_NAMES, CONV1D_TYPES
from tests.models import tiny_llama
from tests.unit.weights.adapters import (
    assert_within_one_rounding,
    configure,
    fused_by_peft,
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
    return base_model(tmp_path / "model")


@pytest.mark.parametrize("form", ["one", "many", "bins"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_dtype_and_form_is_fused_as_peft_does(tmp_path, monkeypatch, dtype, form):
    model = small_base_model(tmp_path / "model", dtype=dtype, form=form)
    adapter = train(model, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    monkeypatch.setattr("tasks.core.weights.layout.PIECE_BYTES", 1000)  # rows in several pieces
    fuse_adapter(model, adapter, tmp_path / "out")
    ours = state_dict_of(tmp_path / "out")
    assert_within_one_rounding(model, ours, fused_by_peft(model, adapter))
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
    adapter = train(model, tmp_path / "adapter", **options)
    fuse_adapter(model, adapter, tmp_path / "out")
    ours = state_dict_of(tmp_path / "out")
    assert_within_one_rounding(model, ours, fused_by_peft(model, adapter))
    assert not same_bits(ours, state_dict_of(model))


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_replace_those_of_the_model(tmp_path, model, bias):
    configure(model, "config.json", attention_bias=True)
    AutoModelForCausalLM.from_pretrained(model, dtype="auto").save_pretrained(model)
    adapter = train(model, tmp_path / "adapter", bias=bias)
    fuse_adapter(model, adapter, tmp_path / "out")
    ours = state_dict_of(tmp_path / "out")
    assert_within_one_rounding(model, ours, fused_by_peft(model, adapter))
    name = "model.layers.0.self_attn.q_proj.bias"
    assert not torch.equal(ours[name], state_dict_of(model)[name])


def test_weights_stored_in_by_out_are_fused_transposed(tmp_path):
    model = gpt2(tmp_path / "model", tie_word_embeddings=False)
    adapter = train(model, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    fuse_adapter(model, adapter, tmp_path / "out")
    assert_within_one_rounding(
        model, state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    )


def test_an_adapter_stored_as_bin_gives_the_same_bits(tmp_path, model):
    fuse_adapter(model, train(model, tmp_path / "safe"), tmp_path / "one")
    fuse_adapter(model, train(model, tmp_path / "bin", safe=False), tmp_path / "two")
    assert same_bits(state_dict_of(tmp_path / "one"), state_dict_of(tmp_path / "two"))


def test_what_the_adapter_does_not_name_keeps_its_bits(tmp_path, model):
    fuse_adapter(model, train(model, tmp_path / "adapter"), tmp_path / "out")
    before, after = state_dict_of(model), state_dict_of(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.layers.{i}.self_attn.q_proj.weight" for i in range(3)}


def test_every_other_file_of_the_model_is_carried_over(tmp_path, model):
    configure(model, "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    (model / "modeling_own.py").write_text("own = 1\n")
    (model / "code").mkdir()
    (model / "code" / "part.py").write_text("part = 1\n")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (model / "manifest.json").write_text("{}")
    (model / ".cache").mkdir()
    (model / ".cache" / "junk").touch()
    written = fuse_adapter(model, _train_on_copy(tmp_path), tmp_path / "out")
    out = tmp_path / "out"
    for name in ("config.json", "modeling_own.py", "code/part.py", "chat_template.jinja"):
        assert (out / name).read_bytes() == (model / name).read_bytes()
        assert not (out / name).samefile(model / name)
    on_disk = {str(p.relative_to(out)): digest_of(p) for p in out.rglob("*") if p.is_file()}
    assert written.files == on_disk
    assert not {"manifest.json", ".cache/junk"} & on_disk.keys()


def _train_on_copy(tmp_path: Path) -> Path:
    """Train on the same weights under the plain architecture, whose class is known here."""
    return train(base_model(tmp_path / "plain"), tmp_path / "adapter")


PEFT, BESIDE = "merge_and_unload", "adapter beside it"
UNSUPPORTED = {
    "lora_bias": ({"lora_bias": True}, "B has biases", PEFT),
    "target_parameters": (
        {"target_parameters": ["mlp.gate_proj.weight"], "use_dora": True},
        "supports no DoRA, PiSSA",
        PEFT,
    ),
    "trainable_token_indices": ({"trainable_token_indices": [1, 2]}, "single rows", PEFT),
    "layer_replication": ({"layer_replication": [[0, 2], [1, 3]]}, "more layers", PEFT),
    "use_qalora": ({"use_qalora": True}, "groups of inputs", PEFT),
    "use_bdlora": ({"use_bdlora": {"nblocks": 2}}, "block-diagonal", PEFT),
    "ensure_weight_tying": ({"ensure_weight_tying": True}, "share one update", PEFT),
    "megatron_config": ({"megatron_config": {"a": 1}}, "Megatron", PEFT),
    "kasa_config": ({"kasa_config": {"beta": 1}}, "singular values", PEFT),
    "alora_invocation_tokens": ({"alora_invocation_tokens": [1]}, "invocation", BESIDE),
    "arrow_config": ({"arrow_config": {"top_k": 3}}, "for each token", BESIDE),
    "a_feature_of_tomorrow": ({"a_feature_of_tomorrow": 1}, "there is no rule for fusing it", PEFT),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_feature_that_cannot_be_fused_is_refused_by_its_name(tmp_path, model, name):
    fields, cause, way_out = UNSUPPORTED[name]
    adapter = train(model, tmp_path / "adapter")
    configure(adapter, "adapter_config.json", **fields)
    with pytest.raises(AdapterMismatch, match=f"{name}=.*{cause}") as refused:
        fuse_adapter(model, adapter, tmp_path / "out")
    assert way_out in str(refused.value.next_step)
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
    adapter = train(model, tmp_path / "adapter", target_modules=["v_proj"])
    configure(adapter, "adapter_config.json", **fields)
    with pytest.raises(AdapterMismatch, match=match):
        fuse_adapter(model, adapter, tmp_path / "out")


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
    adapter = train(model, tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors.pop(removed, None)
    tensors |= {name: torch.zeros(shape) for name, shape in added.items()}
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(AdapterMismatch, match=match):
        fuse_adapter(model, adapter, tmp_path / "out")


@pytest.mark.parametrize(
    "options", [{"target_modules": ["embed_tokens"]}, {"modules_to_save": ["lm_head"]}]
)
def test_an_adapter_on_tied_embeddings_is_refused(tmp_path, model, options):
    adapter = train(model, tmp_path / "adapter", **options)
    configure(model, "config.json", tie_word_embeddings=True)
    with pytest.raises(AdapterMismatch, match="ties its embeddings"):
        fuse_adapter(model, adapter, tmp_path / "out")


EXACT = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}


@pytest.mark.parametrize("dtype", EXACT)
def test_where_peft_is_exact_the_bits_are_peft_s(tmp_path, dtype):
    """B @ A is exact here, so one rounding is left: of the sum, taken in the wider type.

    Summed in fp32, float64 weights would lose bits; rounded to float16 before, the small updates.
    """
    model = base_model(tmp_path / "model", dtype=dtype)
    adapter = train(model, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    generator = torch.Generator().manual_seed(6)
    tensors = load_file(adapter / "adapter_model.safetensors")
    exact = {
        name: torch.randint(-64, 64, tensor.shape, generator=generator) * 2.0**-12
        for name, tensor in tensors.items()
    }
    save_file(exact, adapter / "adapter_model.safetensors")
    fuse_adapter(model, adapter, tmp_path / "out")
    ours, theirs = state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    assert same_bits(ours, theirs)
    assert ours["lm_head.weight"].dtype == EXACT[dtype]
    assert not same_bits(ours, state_dict_of(model))


def test_an_adapter_in_double_precision_is_added_in_double_precision(tmp_path):
    model = base_model(tmp_path / "model", dtype="float64")
    adapter = train(model, tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name: tensor.double() * (1 + 2**-40) for name, tensor in tensors.items()},
        adapter / "adapter_model.safetensors",
    )
    fuse_adapter(model, adapter, tmp_path / "out")
    name = "model.layers.0.self_attn.q_proj.weight"
    ours, theirs = (
        s[name] for s in (state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter))
    )
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-15)


@pytest.mark.parametrize("flag", [False, True])
def test_conv1d_beside_linear_is_fused_as_each_module_is(tmp_path, flag):
    """GPT-2: square c_proj is Conv1D, lm_head is Linear; PEFT writes the flag of the last one."""
    model = gpt2(tmp_path / "model", tie_word_embeddings=False)
    adapter = train(model, tmp_path / "adapter", target_modules=["c_attn", "c_proj", "lm_head"])
    configure(adapter, "adapter_config.json", fan_in_fan_out=flag)
    fuse_adapter(model, adapter, tmp_path / "out")
    assert_within_one_rounding(
        model, state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    )


def test_a_square_weight_of_unknown_code_that_may_be_conv1d_is_refused(tmp_path, model):
    state_dict = state_dict_of(model)
    name = "model.layers.{}.self_attn.{}.weight"
    for layer in range(3):
        state_dict[name.format(layer, "c_proj")] = state_dict.pop(name.format(layer, "q_proj"))
    adapter = train(model, tmp_path / "adapter")
    renamed = {
        tensor.replace("q_proj", "c_proj"): value
        for tensor, value in load_file(adapter / "adapter_model.safetensors").items()
    }
    save_file(renamed, adapter / "adapter_model.safetensors")
    configure(adapter, "adapter_config.json", target_modules=["c_proj"])
    save(model, state_dict)
    configure(model, "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(AdapterMismatch, match="cannot be determined"):
        fuse_adapter(model, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


INCOMPLETE = {
    "nothing": (lambda t: {}, "holds no tensor"),
    "layer 0 alone": (lambda t: {n: v for n, v in t.items() if ".0." in n}, "found: 2 without one"),
    "one side": (lambda t: {n: v for n, v in t.items() if "lora_A" in n}, "A or B is missing"),
    "ZeRO-3's leftovers": (
        lambda t: {n: torch.zeros(0) if "lora_A" in n else v for n, v in t.items()},
        "ZeRO-3",
    ),
    "bare names": (
        lambda t: {n.removeprefix("base_model.model."): v for n, v in t.items()},
        "put base_model.model. before",
    ),
    "the adapter's name": (
        lambda t: {n.replace(".weight", ".default.weight"): v for n, v in t.items()},
        "remove `.default` from the names",
    ),
    "another name": (
        lambda t: {n.replace(".weight", ".warung.weight"): v for n, v in t.items()},
        "`.warung` in the name",
    ),
}


@pytest.mark.parametrize(("change", "words"), INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_what_is_missing_or_misnamed_is_told_by_its_cause(tmp_path, model, change, words):
    adapter = train(model, tmp_path / "adapter")
    rewrite(adapter, change)
    with pytest.raises(AdapterMismatch) as refused:
        fuse_adapter(model, adapter, tmp_path / "out")
    assert words in str(refused.value)
    assert "trained on" not in refused.value.next_step
    assert not (tmp_path / "out").exists()


def test_a_module_that_was_to_be_saved_whole_and_is_not_there_is_named(tmp_path, model):
    adapter = train(model, tmp_path / "adapter", modules_to_save=["lm_head"])
    rewrite(adapter, lambda t: {n: v for n, v in t.items() if "lm_head" not in n})
    with pytest.raises(AdapterMismatch, match="the first: lm_head"):
        fuse_adapter(model, adapter, tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        {"layers_to_transform": [1]},
        {"layers_to_transform": 2, "layers_pattern": "layers"},
        {"exclude_modules": ["layers.0.self_attn.q_proj"]},
        {"target_modules": r".*\.[12]\.self_attn\.[qv]_proj"},
    ],
)
def test_modules_that_were_never_targeted_are_not_missing(tmp_path, model, options):
    adapter = train(model, tmp_path / "adapter", **options)
    fuse_adapter(model, adapter, tmp_path / "out")
    assert_within_one_rounding(
        model, state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"rank_pattern": {"q_proj(": 2}},
        {"alpha_pattern": {"*": 2}},
        {"target_modules": "q_proj["},
        {"exclude_modules": "("},
        {"layers_to_transform": [1], "layers_pattern": "("},
    ],
)
def test_a_pattern_that_is_no_regular_expression_is_named(tmp_path, model, fields):
    adapter = train(model, tmp_path / "adapter")
    configure(adapter, "adapter_config.json", **fields)
    with pytest.raises(AdapterMismatch, match="not a valid regular expression"):
        fuse_adapter(model, adapter, tmp_path / "out")


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_is_given_as_a_file_is_told_its_directory(tmp_path, model, file):
    adapter = train(model, tmp_path / "adapter")
    with pytest.raises(AdapterMismatch) as refused:
        fuse_adapter(model, adapter / file, tmp_path / "out")
    assert str(adapter) in refused.value.next_step


def test_a_class_that_ties_by_default_is_tied(tmp_path):
    """GPT-2's config.json need not say so: LoRA on wte changes the head, too."""
    model = gpt2(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter", target_modules=["wte"])
    document = json.loads((model / "config.json").read_text())
    document.pop("tie_word_embeddings", None)
    (model / "config.json").write_text(json.dumps(document))
    with pytest.raises(AdapterMismatch, match="ties its embeddings") as refused:
        fuse_adapter(model, adapter, tmp_path / "out")
    assert "merge_and_unload" in refused.value.next_step


def _with_added_token(model: Path, adapter: Path, *, resized: bool) -> Path:
    """Save an adapter as people do after adding a token: with the tokenizer, rows and template."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["<|usaha|>"] if resized else [f"<{i}>" for i in range(100)])
    tokenizer.chat_template = "{{ messages[0].content }}"
    untrained = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    if resized:
        untrained.resize_token_embeddings(321)
    peft_model = get_peft_model(untrained, LoraConfig(r=4, target_modules=["q_proj"]))
    peft_model.save_pretrained(adapter, save_embedding_layers=resized)
    tokenizer.save_pretrained(adapter)
    return adapter


@pytest.mark.parametrize("tie", [False, True])
def test_added_tokens_and_chat_template_of_the_adapter_go_into_the_model(tmp_path, tie):
    model = tiny_llama(tmp_path / "model", tie=tie)
    (model / "tokenizer.model").write_bytes(b"the vocabulary of before")
    adapter = _with_added_token(model, tmp_path / "adapter", resized=True)
    fuse_adapter(model, adapter, tmp_path / "out")
    out = tmp_path / "out"
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 321
    loaded = AutoModelForCausalLM.from_pretrained(out)
    saved = load_file(adapter / "adapter_model.safetensors")
    expected = next(t for n, t in saved.items() if n.endswith("embed_tokens.weight"))
    assert torch.equal(loaded.get_input_embeddings().weight, expected)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert "<|usaha|>" in tokenizer.get_vocab()
    assert tokenizer.chat_template == "{{ messages[0].content }}"
    assert (out / "tokenizer.model").exists()


def test_tokens_without_an_embedding_are_refused(tmp_path):
    model = tiny_llama(tmp_path / "model")
    adapter = _with_added_token(model, tmp_path / "adapter", resized=False)
    with pytest.raises(AdapterMismatch, match="without an embedding row"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_a_chat_template_alone_replaces_the_model_s(tmp_path, model):
    (model / "chat_template.jinja").write_text("old")
    adapter = train(model, tmp_path / "adapter")
    (adapter / "chat_template.jinja").write_text("new")
    fuse_adapter(model, adapter, tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "new"
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_an_adapter_in_the_model_s_own_directory_is_fused_and_left_behind(tmp_path, model):
    train(model, tmp_path / "adapter")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "adapter" / name, model / name)
    written = fuse_adapter(model, model, tmp_path / "out")
    assert not {"adapter_config.json", "adapter_model.safetensors"} & written.files.keys()
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_the_models_that_use_conv1d_are_those_of_the_installed_transformers():
    import transformers.models

    root = Path(transformers.models.__file__).parent
    names, folders = set(), set()
    for path in root.glob("*/modeling_*.py"):
        found = set(re.findall(r"self\.(\w+) = Conv1D\(", path.read_text()))
        if found and "import Conv1D" in path.read_text():
            folders.add(path.parent.name)
            names |= found
    assert names == CONV1D_NAMES
    assert folders == {kind.replace("openai-gpt", "openai") for kind in CONV1D_TYPES} - {"gpt-sw3"}


def test_shards_that_were_fused_at_another_scale_are_not_kept(tmp_path, model):
    adapter = train(model, tmp_path / "adapter")

    def stop(done: int, total: int) -> None:
        if done == total:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fuse_adapter(model, adapter, tmp_path / "out", max_shard_bytes=10_000, on_progress=stop)
    assert list((tmp_path / "out").glob("*.safetensors"))
    configure(adapter, "adapter_config.json", lora_alpha=80)
    resumed = fuse_adapter(model, adapter, tmp_path / "out", max_shard_bytes=10_000)
    assert (
        resumed.files
        == fuse_adapter(model, adapter, tmp_path / "new", max_shard_bytes=10_000).files
    )
    assert resumed.shards_kept == 0


def test_a_directory_without_an_adapter_is_refused(tmp_path, model):
    with pytest.raises(AdapterMismatch, match=r"adapter_config\.json"):
        fuse_adapter(model, model, tmp_path / "out")


def test_an_adapter_without_weights_is_refused(tmp_path, model):
    adapter = train(model, tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(NotAModel, match="adapter_model"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_an_adapter_on_integer_weights_is_refused(tmp_path, model):
    adapter = train(model, tmp_path / "adapter")
    state_dict = state_dict_of(model)
    name = "model.layers.0.self_attn.q_proj.weight"
    save(model, state_dict | {name: state_dict[name].to(torch.int8)})
    with pytest.raises(AdapterMismatch, match="I8"):
        fuse_adapter(model, adapter, tmp_path / "out")
