import dataclasses

import pytest
import torch
from fastchat.model.compression import compress, default_compression_config
from transformers import LlamaForCausalLM

from tasks.core.planning.serving import kv_cache_bytes, served_weight_bytes, serving_memory
from tasks.core.planning.shape import LLAMA_7B, LLAMA_13B, ModelShape
from tests.unit.planning.reference import config_of

SHAPE = ModelShape(
    layers=2, hidden=256, intermediate=512, heads=4, kv_heads=2, head_dim=64, vocab=512
)


@pytest.mark.parametrize("shape", [SHAPE, dataclasses.replace(LLAMA_13B, layers=3)])
def test_the_kv_cache_has_the_bytes_of_transformers_own(shape):
    with torch.device("meta"):
        model = LlamaForCausalLM(config_of(shape)).half()
        ids = torch.ones(1, 48, dtype=torch.long)
        cache = model(ids, use_cache=True).past_key_values
    held = sum(
        tensor.numel() * tensor.element_size()
        for layer in cache.layers
        for tensor in (layer.keys, layer.values)
    )
    assert kv_cache_bytes(shape, 48) == held


def test_8_bit_weights_have_the_bytes_that_fastchat_compresses_them_to():
    model = LlamaForCausalLM(config_of(SHAPE)).half()
    held = 0
    for name, weight in model.state_dict().items():
        parts = (weight,)
        if weight.dim() == 2 and "embed" not in name:
            parts = compress(weight, default_compression_config)[:2]
        held += sum(part.numel() * part.element_size() for part in parts)
    assert served_weight_bytes(SHAPE, 8) == held


def test_16_bit_weights_are_the_files_bytes_and_the_cpu_has_fp32():
    assert served_weight_bytes(LLAMA_13B, 16) == LLAMA_13B.weight_bytes("float16")
    assert served_weight_bytes(LLAMA_13B, 16, device="cpu") == LLAMA_13B.weight_bytes("float32")


def test_fewer_bits_need_less():
    needs = [serving_memory(LLAMA_13B, b, context_tokens=2048).fixed_bytes for b in (16, 8, 4)]
    assert needs == sorted(needs, reverse=True)


def test_two_gpus_share_the_layers_but_one_holds_embedding_and_head():
    spread = serving_memory(LLAMA_7B, 16, context_tokens=2048, gpus=2)
    weights = next(term.bytes for term in spread.terms if term.name == "weights")
    layers = LLAMA_7B.layers // 2 * LLAMA_7B.layer_params
    ends = 2 * LLAMA_7B.embedding_params + LLAMA_7B.hidden
    assert weights == 2 * (layers + ends)
    assert spread.kv_bytes_per_sequence == kv_cache_bytes(LLAMA_7B, 2048) // 2


def test_no_conversation_fits_where_the_weights_do_not():
    memory = serving_memory(LLAMA_13B, 16, context_tokens=2048)
    assert memory.sequences_in(memory.fixed_bytes - 1) == 0
    assert memory.sequences_in(memory.needed_bytes(3)) == 3
