import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from tasks.core.planning.shape import LINEAR_NAMES, LLAMA_13B, ModelShape
from tasks.core.planning.training_memory import (
    GB,
    MAX_LIVE_PARAMETERS,
    adapter_state_bytes,
    gathered_bytes,
    lora_params,
    pinned_weight_bytes,
    process_bytes,
    runtime_bytes,
    training_memory,
    weight_bytes,
)
from tasks.core.recipe import Finetune, Lora
from tests.unit.planning.reference import config_of

SHAPE = ModelShape(
    layers=3, hidden=64, intermediate=160, heads=4, kv_heads=2, head_dim=16, vocab=100
)
WHOLE = LLAMA_13B.weight_bytes("bfloat16")


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("k_proj", "down_proj"), "all-linear"])
def test_lora_has_the_parameters_that_peft_trains(targets):
    with torch.device("meta"):
        model = get_peft_model(
            LlamaForCausalLM(config_of(SHAPE)),
            LoraConfig(r=4, target_modules=targets if isinstance(targets, str) else list(targets)),
        )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert lora_params(SHAPE, Lora(r=4, target_modules=targets)) == trained


def test_without_zero_3_every_process_holds_all_weights():
    for stage in (0, 2):
        assert weight_bytes(LLAMA_13B, Finetune(processes=4, zero_stage=stage)) == WHOLE


def test_zero_3_divides_the_weights_between_the_processes():
    assert weight_bytes(LLAMA_13B, Finetune(processes=4, zero_stage=3)) == WHOLE // 4


def test_parameter_offload_moves_the_whole_model_to_the_host_once():
    memory = training_memory(LLAMA_13B, Finetune(processes=2, zero_stage=3, offload="all"))
    assert not any(term.name == "weights" for term in memory.gpu)
    assert [term.bytes for term in memory.host if term.name == "weights"] == [WHOLE]


def test_pinned_pieces_are_rounded_up_to_powers_of_two():
    def pinned(**changes):
        return pinned_weight_bytes(SHAPE, Finetune(zero_stage=3, offload="all", **changes))

    # In bf16: q and o 64 x 64 are 8192 bytes, k and v half, the MLP's 64 x 160 are 20480 -> 32768,
    # embedding and head 100 x 64 are 12800 -> 16384.
    assert pinned() == 3 * (2 * 8192 + 2 * 4096 + 3 * 32768) + 2 * 16384
    # Three pieces of each: 2732 -> 4096, 1366 -> 2048, 6828 -> 8192, 4268 -> 8192.
    assert pinned(processes=3) == 3 * (3 * (2 * 4096 + 2 * 2048 + 3 * 8192) + 2 * 8192)


def test_optimizer_offload_moves_the_fp32_states_to_the_host():
    asked = Finetune(processes=2, zero_stage=2)
    moved = asked.model_copy(update={"offload": "optimizer"})
    n_lora = lora_params(LLAMA_13B, asked.lora)
    assert adapter_state_bytes(n_lora, moved) == (2 * n_lora, n_lora, 0)
    host = {term.name: term.bytes for term in training_memory(LLAMA_13B, moved).host}
    assert host["optimizer"] == 16 * n_lora


def test_4_bit_weights_take_4_127_bits_where_they_are_linear():
    asked = Finetune(zero_stage=2, quantization="4bit")
    rest = LLAMA_13B.total_params - LLAMA_13B.layer_linear_params
    expected = LLAMA_13B.layer_linear_params * 4.127 / 8 + 2 * rest
    assert weight_bytes(LLAMA_13B, asked) == pytest.approx(expected, abs=1)


def test_zero_3_divides_4_bit_weights_but_not_their_scales():
    asked = Finetune(zero_stage=3, quantization="4bit", processes=2)
    linear = LLAMA_13B.layer_linear_params
    packed = linear // 2 + 2 * (LLAMA_13B.total_params - linear)
    expected = packed / 2 + linear * 0.127 / 8
    assert weight_bytes(LLAMA_13B, asked) == pytest.approx(expected, abs=1)


def test_a_gpu_holds_a_whole_4_bit_copy_before_it_is_divided():
    asked = Finetune(zero_stage=3, quantization="4bit", processes=8, max_length_tokens=16)
    whole = weight_bytes(LLAMA_13B, asked.model_copy(update={"zero_stage": 2}))
    memory = training_memory(LLAMA_13B, asked)
    assert "loading" in {term.name for term in memory.gpu}
    assert memory.gpu_bytes == whole + runtime_bytes(asked)


def test_one_process_without_offload_gathers_nothing():
    assert gathered_bytes(LLAMA_13B, Finetune(processes=1, zero_stage=3)) == 0


def test_zero_3_keeps_no_more_whole_than_deepspeed_lets_live():
    live = gathered_bytes(LLAMA_13B, Finetune(processes=2, zero_stage=3))
    assert live == 2 * (MAX_LIVE_PARAMETERS + LLAMA_13B.embedding_params)
    assert gathered_bytes(SHAPE, Finetune(processes=2, zero_stage=3)) == 2 * SHAPE.total_params


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_weights_that_are_read_onto_the_gpus_take_no_host_memory(zero_stage):
    settings = Finetune(processes=2, zero_stage=zero_stage)
    assert training_memory(LLAMA_13B, settings).host_bytes == process_bytes(settings)


def test_on_the_cpu_all_is_in_host_memory_for_each_process():
    one = training_memory(SHAPE, Finetune(device="cpu", zero_stage=0))
    two = training_memory(SHAPE, Finetune(device="cpu", zero_stage=0, processes=2))
    assert one.gpu == ()
    assert two.host_bytes == 2 * one.host_bytes
    assert one.host_bytes > GB + SHAPE.weight_bytes("bfloat16")


@pytest.mark.parametrize("name", LINEAR_NAMES)
def test_a_larger_rank_needs_more_of_every_term_of_the_adapter(name):
    def terms(rank):
        asked = Finetune(lora=Lora(r=rank, target_modules=(name,)))
        return {term.name: term.bytes for term in training_memory(LLAMA_13B, asked).gpu}

    small, large = terms(8), terms(16)
    for term in ("LoRA", "gradients", "optimizer"):
        assert large[term] == 2 * small[term]


def test_the_sum_is_that_of_the_terms_and_every_term_says_why():
    memory = training_memory(LLAMA_13B, Finetune(processes=2))
    assert memory.gpu_bytes == sum(term.bytes for term in memory.gpu)
    assert all(term.why and term.bytes > 0 for term in (*memory.gpu, *memory.host))
