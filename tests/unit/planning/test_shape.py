import dataclasses
import json

import pytest
import torch
from accelerate.utils import calculate_maximum_sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tasks.core.errors import NotAModel
from tasks.core.planning.shape import (
    LLAMA_7B,
    LLAMA_13B,
    LLAMA_30B,
    ModelShape,
    dtype_of,
    known_shape,
    shape_from_config,
)
from tests.unit.planning.reference import config_of

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


@pytest.mark.parametrize("missing", sorted(SMALL))
def test_a_config_without_a_needed_number_is_refused_by_its_name(missing):
    config = {name: value for name, value in SMALL.items() if name != missing}
    with pytest.raises(NotAModel) as refused:
        shape_from_config(config, where="somewhere/config.json")
    assert missing in str(refused.value)
    assert refused.value.where == "somewhere/config.json"


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "32", True])
def test_a_number_that_is_not_a_positive_integer_is_refused(wrong):
    with pytest.raises(NotAModel):
        shape_from_config({**SMALL, "num_hidden_layers": wrong})


def test_a_mixture_of_experts_is_refused_instead_of_counted_wrongly():
    with pytest.raises(NotAModel, match="experts"):
        shape_from_config({**SMALL, "num_local_experts": 8})


@settings(max_examples=25)
@given(
    layers=st.integers(1, 4),
    kv_heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([8, 12]),
    intermediate=st.integers(1, 200),
    vocab=st.integers(2, 500),
    tied=st.booleans(),
    attention_bias=st.booleans(),
    mlp_bias=st.booleans(),
)
def test_parameters_equal_those_of_the_real_model(  # noqa: PLR0917 (hypothesis draws them)
    layers, kv_heads, head_dim, intermediate, vocab, tied, attention_bias, mlp_bias
):
    shape = ModelShape(
        layers=layers,
        hidden=32,
        intermediate=intermediate,
        heads=4,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        tied=tied,
        qkv_bias=attention_bias,
        o_bias=attention_bias,
        mlp_bias=mlp_bias,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config_of(shape))
    assert shape.total_params == sum(p.numel() for p in model.parameters())
    layer = model.model.layers[0]
    assert shape.layer_params == sum(p.numel() for p in layer.parameters())
    assert shape.attention_params == sum(p.numel() for p in layer.self_attn.parameters())
    assert shape.mlp_params == sum(p.numel() for p in layer.mlp.parameters())
    assert shape_from_config(model.config.to_dict()) == shape


def test_qwen2_has_biases_that_its_config_does_not_mention():
    config = Qwen2Config(**SMALL, num_key_value_heads=2, tie_word_embeddings=True)
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    shape = shape_from_config(config.to_dict())
    assert shape.total_params == sum(p.numel() for p in model.parameters())


def test_missing_optional_fields_have_llamas_defaults():
    shape = shape_from_config(SMALL)
    assert (shape.kv_heads, shape.head_dim, shape.tied, shape.context) == (4, 8, False, 2048)


@pytest.mark.parametrize(
    ("repo", "published"),
    [
        ("huggyllama/llama-7b", 6_738_415_616),
        ("huggyllama/llama-13b", 13_015_864_320),
        ("huggyllama/llama-30b", 32_528_943_616),
        ("lmsys/vicuna-13b-delta-v1.1", 13_015_864_320),
    ],
)
def test_a_known_repository_has_its_published_number_of_parameters(repo, published):
    shape = known_shape(repo)
    assert shape is not None
    assert shape.total_params == published


def test_an_unknown_repository_has_no_shape():
    assert known_shape("someone/else") is None


@pytest.mark.parametrize("shape", [LLAMA_7B, LLAMA_13B, LLAMA_30B], ids=["7b", "13b", "30b"])
def test_weights_and_largest_layer_are_those_that_accelerate_estimates(shape):
    with torch.device("meta"):
        model = LlamaForCausalLM(config_of(shape)).half()
    total, (largest, _) = calculate_maximum_sizes(model)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    assert shape.weight_bytes("float16") == total - buffers
    assert max(shape.layer_params, shape.embedding_params) * 2 == largest


def test_a_shape_is_plain_data():
    assert ModelShape(**dataclasses.asdict(LLAMA_13B)) == LLAMA_13B


@pytest.mark.parametrize("config", [None, "{", "[]", "{}", '{"dtype": "int3"}'])
def test_a_config_that_tells_no_type_is_taken_for_float32(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert dtype_of(tmp_path) == "float32"


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_the_type_of_the_weights_is_what_the_config_says_in_either_version(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({name: "bfloat16"}))
    assert dtype_of(tmp_path) == "bfloat16"
