"""What a fine-tune's time depends on. How far it is from published times: test_published.py."""

from pathlib import Path

import pytest

from tasks.core.machine.gpus import GpuSpeed
from tasks.core.planning.shape import LLAMA_7B, LLAMA_13B, ModelShape
from tasks.core.planning.times import Rates, training_seconds_on_gpus
from tasks.core.recipe import Finetune
from tasks.core.units import GB

CARD = GpuSpeed(tflops=100, memory_bytes_per_s=1000 * GB)
JOINED = GpuSpeed(tflops=100, memory_bytes_per_s=1000 * GB, nvlink_bytes_per_s=300 * GB)


def seconds(*, card: GpuSpeed = CARD, shape: ModelShape = LLAMA_13B, **changes):
    tokens = changes.pop("training_tokens", 1_000_000)
    rates = changes.pop("rates", None)
    asked = Finetune(**changes)
    return training_seconds_on_gpus(shape, asked, speed=card, training_tokens=tokens, rates=rates)


def test_training_time_is_unknown_while_the_data_is():
    assert seconds(training_tokens=None) is None


def test_a_limit_of_steps_bounds_the_time():
    assert seconds(training_tokens=None, max_steps=1) < seconds()
    assert seconds(max_steps=10**6) == seconds()


def test_checkpointing_parameter_offload_and_4_bit_take_time_and_a_gpu_saves_some():
    assert 0.6 < seconds(gradient_checkpointing=False) / seconds() < 0.7
    assert seconds(offload="all") > seconds()
    assert seconds(quantization="4bit") > seconds()
    assert seconds(zero_stage=2, processes=2) == pytest.approx(seconds(zero_stage=2) / 2)


def test_preferences_take_another_forward_pass_over_both_answers():
    """Of as many tokens: a pair has those of two conversations."""
    one_pass, two_sides = 4 / 3, {"training_tokens": None, "max_steps": 10}
    assert seconds(method="dpo") == pytest.approx(one_pass * seconds(), rel=0.05)
    assert seconds(method="dpo", **two_sides) == pytest.approx(
        2 * one_pass * seconds(**two_sides), rel=0.05
    )
    offloaded = seconds(method="dpo", offload="all") - seconds(method="dpo")
    assert offloaded == pytest.approx(1.5 * (seconds(offload="all") - seconds()) / 2, rel=0.05)


def test_a_long_row_takes_more_than_short_ones_of_as_many_tokens():
    """Attention's products grow with the square of a row, those of the weights do not."""
    short = seconds(shape=LLAMA_7B, max_length_tokens=2048, micro_batch_size=32)
    long = seconds(shape=LLAMA_7B, max_length_tokens=65_536, micro_batch_size=1)
    assert 2 < long / short < 4


def test_a_card_with_slower_memory_takes_longer_at_the_same_peak():
    slow = GpuSpeed(tflops=100, memory_bytes_per_s=300 * GB)
    assert seconds(card=slow) > 1.2 * seconds()


def test_a_small_model_is_slower_a_parameter_for_its_layers_move_as_much():
    def of_each_parameter(shape: ModelShape) -> float:
        return seconds(shape=shape) / shape.multiplied_params

    narrow = ModelShape(
        layers=24, hidden=2048, intermediate=5504, heads=16, kv_heads=16, head_dim=128, vocab=32_000
    )
    assert of_each_parameter(narrow) > 1.2 * of_each_parameter(LLAMA_13B)


def test_zero_3_gathers_over_nvlink_where_the_cards_have_it():
    over_pcie = seconds(zero_stage=3, processes=4) - seconds(zero_stage=2, processes=4)
    over_nvlink = seconds(card=JOINED, zero_stage=3, processes=4) - seconds(
        zero_stage=2, processes=4
    )
    assert over_pcie / over_nvlink == pytest.approx(300 * 0.75 / 16)


def test_several_machines_gather_over_what_joins_them():
    hosts = {"zero_stage": 3, "processes": 4, "hostfile": Path("hosts")}
    assert seconds(card=JOINED, **hosts) == seconds(**hosts)


def test_offloaded_weights_come_over_the_hosts_link_whatever_joins_the_cards():
    assert seconds(card=JOINED, offload="all") == seconds(offload="all")
    assert seconds(offload="all", rates=Rates(link_bytes_per_s=64e9)) < seconds(offload="all")


def test_4_bits_cost_most_where_a_micro_batch_is_small():
    """Weights are unpacked a pass, not a token: so it is no factor. Seen by the Qwen team."""

    def times(**changes) -> float:
        a100 = GpuSpeed(tflops=312, memory_bytes_per_s=2039 * GB)
        plain = {"card": a100, "shape": LLAMA_7B, "zero_stage": 0, "micro_batch_size": 1}
        return seconds(quantization="4bit", **plain, **changes) / seconds(**plain, **changes)

    assert times(max_length_tokens=512) == pytest.approx(3.0 / 1.5, rel=0.25)
    assert times(max_length_tokens=8192) == pytest.approx(22.3 / 21.3, rel=0.1)
