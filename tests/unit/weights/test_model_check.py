"""The one check of a model directory: from headers and small files, with the cause by name."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tasks.core.errors import CorruptWeights, KawanUsahaError, NotAModel, UnsafeName
from tasks.core.weights.layout import TensorSpec, plan_layout
from tasks.core.weights.llama_layout import promised_tensors
from tasks.core.weights.model_check import check_model
from tests.models import tiny_llama
from tests.unit.files.test_foreign import POINTER
from tests.unit.weights.models import save, state_dict_of

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "biases": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "wide heads": (LlamaForCausalLM, LlamaConfig, {"head_dim": 16}),
    "all heads": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": None}),
    "mistral": (MistralForCausalLM, MistralConfig, {}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "whole", sharded=True)


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def _configure(model: Path, **fields: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(("kind", "config", "options"), MODELS.values(), ids=MODELS.keys())
def test_the_promised_tensors_are_those_of_transformers(kind, config, options):
    made = config(**{**SIZES, **options})
    with torch.device("meta"):
        built = kind(made)
    expected = {name: tuple(p.shape) for name, p in built.named_parameters()}  # a tied one once
    assert promised_tensors(made.to_dict()) == expected


@pytest.mark.parametrize(("kind", "config", "_"), MODELS.values(), ids=MODELS.keys())
def test_numbers_that_a_configuration_does_not_give_are_those_of_its_class(kind, config, _):
    with torch.device("meta"):
        built = kind(config(num_hidden_layers=1))
    expected = {name: tuple(p.shape) for name, p in built.named_parameters()}
    said = {"model_type": config.model_type, "num_hidden_layers": 1}
    assert promised_tensors(said) == expected


Damage = Callable[[Path], object]
SHARD = "model-00001-of-00005.safetensors"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "weights are a pointer": (lambda m: (m / SHARD).write_bytes(POINTER), "Git LFS pointer"),
    "weights are a page": (lambda m: (m / SHARD).write_bytes(b"<html>"), "web page"),
    "weights are an error": (lambda m: (m / SHARD).write_text("Not today."), "a text"),
    "weights are empty": (lambda m: (m / SHARD).write_bytes(b""), "empty file"),
    "half of the weights": (lambda m: os.truncate(m / SHARD, 9000), "truncated"),
    "half of the header": (lambda m: os.truncate(m / SHARD, 100), "truncated"),
    "a pointer as tokenizer.json": (
        lambda m: (m / "tokenizer.json").write_bytes(POINTER),
        "tokenizer.json is a Git LFS pointer",
    ),
    "a pointer as tokenizer.model": (
        lambda m: (m / "tokenizer.model").write_bytes(POINTER),
        "tokenizer.model is a Git LFS pointer",
    ),
    "an empty tokenizer.model": (lambda m: (m / "tokenizer.model").write_bytes(b""), "empty"),
    "half of a tokenizer.model": (
        lambda m: (m / "tokenizer.model").write_bytes(b"\x0a\x05abcde\x0a\x09abc"),
        "tokenizer.model is truncated",
    ),
    "half of a long field of a tokenizer.model": (
        lambda m: (m / "tokenizer.model").write_bytes(b"\x0a\x05abcde\x12\xac\x02" + bytes(299)),
        "expected: at least 310 bytes",
    ),
    "half of tokenizer.json": (
        lambda m: os.truncate(m / "tokenizer.json", 2000),
        "tokenizer.json is not valid JSON",
    ),
    "half of a large tokenizer.json": (
        lambda m: (m / "tokenizer.json").write_text('{"model": {' + '"a": 1, ' * 50_000),
        "tokenizer.json is not a complete JSON object",
    ),
    "a page as config.json": (
        lambda m: (m / "config.json").write_text("<!DOCTYPE html>"),
        "config.json is a web page",
    ),
    "a mark": (
        lambda m: (m / "tokenizer_config.json").write_bytes(
            b"\xef\xbb\xbf" + (m / "tokenizer_config.json").read_bytes()
        ),
        "byte order mark",
    ),
    "a comma": (lambda m: (m / "tokenizer_config.json").write_text('{"a": 1,}'), "comma"),
    "a pointer as code": (lambda m: (m / "modeling_x.py").write_bytes(POINTER), "modeling_x.py"),
    "more words than rows": (lambda m: _configure(m, vocab_size=400), "[320, 32] instead of [400"),
    "fewer words than rows": (lambda m: _configure(m, vocab_size=319), "[320, 32] instead of"),
    "fewer layers": (lambda m: _configure(m, num_hidden_layers=2), "layers.2"),
    "more layers": (lambda m: _configure(m, num_hidden_layers=4), "is missing"),
    "other key heads": (lambda m: _configure(m, num_key_value_heads=1), "k_proj"),
    "a word as a number": (lambda m: _configure(m, hidden_size="32"), "positive whole number"),
    "no model_type": (lambda m: _configure(m, model_type=None), "no model_type"),
    "biases that no module takes": (
        lambda m: save(m, {**state_dict_of(m), "model.layers.0.mlp.up_proj.bias": torch.ones(64)}),
        "belongs to no module",
    ),
    "packed weights": (
        lambda m: save(
            m,
            {
                **state_dict_of(m),
                "model.layers.0.mlp.up_proj.qweight": torch.ones(4, 4, dtype=torch.int32),
            },
        ),
        "packed integers",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_wrong_is_named(model, damage, words):
    check_model(model)
    damage(model)
    with pytest.raises(KawanUsahaError) as refused:
        check_model(model)
    assert words in str(refused.value)
    assert "9223372" not in str(refused.value)
    assert refused.value.next_step


def test_an_empty_code_file_and_an_odd_licence_are_no_faults(model):
    (model / "__init__.py").touch()
    (model / "LICENSE.html").write_text("<html>Apache</html>")
    (model / "model.layers.txt").touch()
    check_model(model)


def test_the_buffer_of_old_checkpoints_is_no_fault(model):
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    check_model(save(model, {**state_dict_of(model), **buffer}))


def test_a_quantized_model_is_not_held_against_the_layout_of_a_plain_one(model):
    _configure(model, quantization_config={"quant_method": "gptq"})
    packed = {"model.layers.0.mlp.up_proj.qweight": torch.ones(4, 4, dtype=torch.int32)}
    check_model(save(model, packed))


def test_an_adapter_inside_is_refused_only_where_the_directory_is_loaded_as_it_is(model):
    (model / "adapter_config.json").write_text("{}")
    check_model(model)
    with pytest.raises(NotAModel, match="a model and an adapter"):
        check_model(model, in_place=True)


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    config = GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"vocab_size": 51}, "50 rows"), ({"n_layer": 3}, "layer 2"), ({"n_layer": 1}, "layer 1")],
)
def test_vocabulary_and_layers_of_another_family_are_checked_too(gpt2, fields, words):
    check_model(gpt2)
    _configure(gpt2, **fields)
    with pytest.raises(NotAModel, match=words):
        check_model(gpt2)


def test_the_embedding_of_a_part_is_not_held_against_the_models_vocabulary(gpt2):
    """As in models that see or speak: their parts have vocabularies of their own."""
    part = {"audio_tower.embed_tokens.weight": torch.ones(7, 4)}
    check_model(save(gpt2, {**state_dict_of(gpt2), **part}))


def test_code_of_its_own_may_have_other_tensors_under_the_name_of_a_built_in_class(model):
    heads = {"medusa_head.0.weight": torch.ones(4, 4)}
    save(model, {**state_dict_of(model), **heads})
    with pytest.raises(NotAModel, match="belongs to no module"):
        check_model(model)
    _configure(model, auto_map={"AutoModelForCausalLM": "modeling_medusa.MedusaLlama"})
    check_model(model)
    _configure(model, vocab_size=319)
    with pytest.raises(NotAModel, match="320 rows"):
        check_model(model)


def test_a_directory_that_is_a_file_is_named(model):
    with pytest.raises(NotAModel, match="a file"):
        check_model(model / "config.json")


def test_a_stray_shard_is_not_looked_at(model):
    save_file({"stray": torch.ones(1)}, model / "model-00001-of-00003.safetensors")
    (model / "pytorch_model.bin").write_bytes(b"half of something")
    check_model(model)


def test_a_model_of_13b_is_checked_without_reading_its_weights(tmp_path):
    """Headers as they are, weights as holes. CPU time, which a busy machine hardly changes."""
    config = {
        "model_type": "llama",
        **{"hidden_size": 5120, "intermediate_size": 13_824, "num_hidden_layers": 40},
        "num_attention_heads": 40,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    promised = promised_tensors(config) or {}
    layout = plan_layout(TensorSpec(name, "F16", shape) for name, shape in promised.items())
    for shard in layout.shards:
        (tmp_path / shard.file).write_bytes(shard.header)
        os.truncate(tmp_path / shard.file, shard.size_bytes)
    (tmp_path / "model.safetensors.index.json").write_text(layout.index_json() or "")
    check_model(tmp_path)

    def seconds() -> float:
        begin = time.process_time()
        assert check_model(tmp_path).total_bytes > 26e9
        return time.process_time() - begin

    # The shortest of several: the collector of garbage may run in any of them.
    assert min(seconds() for _ in range(5)) < 0.5


def test_missing_weights_are_corrupt_weights(model):
    (model / SHARD).unlink()
    with pytest.raises(CorruptWeights, match=SHARD):
        check_model(model)


@pytest.mark.parametrize("metadata", [None, [], "none"])
def test_an_index_that_transformers_cannot_read_is_named(model, metadata):
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "metadata": metadata}))
    with pytest.raises(NotAModel, match="no metadata"):
        check_model(model)


# --- links -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LICENSE", "generation_config.json", "merges.txt", "more.py"])
def test_a_link_by_which_another_file_would_go_with_the_model_is_refused(
    model: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "netrc").write_text("machine example login warung password sesame")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(tmp_path / "netrc")
    with pytest.raises(
        UnsafeName, match=f"{name}[\\s\\S]*netrc[\\s\\S]*replace the link with a copy"
    ):
        check_model(model)


def test_a_link_within_the_directory_is_taken(model: Path) -> None:
    (model / "NOTICE").write_text("terms")
    (model / "LICENSE").symlink_to("NOTICE")
    check_model(model)


def test_the_links_of_the_hubs_cache_are_taken(whole: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "c", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(whole.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    check_model(snapshot)
    (tmp_path / "link").symlink_to(snapshot)
    check_model(tmp_path / "link")
