import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.planning.batch import global_batch_size
from tasks.core.planning.rungs import rungs_of
from tasks.core.planning.shape import LLAMA_13B
from tasks.core.planning.training_memory import pinned_weight_bytes, training_memory
from tasks.core.recipe import Finetune

ORIGINAL = Finetune(processes=2, zero_stage=0, gradient_checkpointing=False)

finetunes = st.builds(
    Finetune,
    micro_batch_size=st.integers(1, 24),
    gradient_accumulation_steps=st.integers(1, 32),
    processes=st.integers(1, 4),
    zero_stage=st.sampled_from([0, 2, 3]),
    offload=st.sampled_from(["none", "optimizer", "all"]),
    quantization=st.sampled_from(["none", "4bit"]),
    device=st.sampled_from(["cuda", "cpu"]),
    gradient_checkpointing=st.booleans(),
)


@given(finetunes)
def test_the_global_batch_size_never_changes(finetune):
    sizes = {global_batch_size(rung.settings) for rung in rungs_of(finetune)}
    assert sizes == {global_batch_size(finetune)}


@given(finetunes)
def test_every_rung_changes_something_and_the_first_nothing(finetune):
    settings = [rung.settings.model_dump_json() for rung in rungs_of(finetune)]
    assert settings[0] == finetune.model_dump_json()
    assert len(set(settings)) == len(settings)


@given(finetunes)
def test_every_rung_is_a_valid_recipe(finetune):
    for rung in rungs_of(finetune):
        assert Finetune.model_validate(rung.settings.model_dump()) == rung.settings


@given(finetunes)
def test_names_are_unique_so_that_the_rung_that_worked_is_found_again(finetune):
    names = [rung.name for rung in rungs_of(finetune)]
    assert len(set(names)) == len(names)


def test_the_ladder_of_the_original_command_has_every_rung_in_order():
    assert [rung.name for rung in rungs_of(ORIGINAL)] == [
        "as asked",
        "micro batch 1",
        "gradient checkpointing",
        "optimizer offload",
        "ZeRO-3",
        "ZeRO-3 with parameter offload",
        "pageable offload",
        "4-bit",
        "4-bit under ZeRO-3",
    ]


def test_each_rung_down_to_offload_needs_less_of_a_gpu_than_the_one_above():
    needs = [
        training_memory(LLAMA_13B, rung.settings).gpu_bytes for rung in rungs_of(ORIGINAL)[:-3]
    ]
    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == len(needs)


def test_each_rung_from_parameter_offload_on_needs_less_host_memory():
    needs = [
        training_memory(LLAMA_13B, rung.settings).host_bytes for rung in rungs_of(ORIGINAL)[-4:-1]
    ]
    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == len(needs)


def test_memory_that_is_not_pinned_is_not_rounded_up():
    offload, pageable = (rung.settings for rung in rungs_of(ORIGINAL)[-4:-2])
    saved = (
        training_memory(LLAMA_13B, offload).host_bytes
        - training_memory(LLAMA_13B, pageable).host_bytes
    )
    weights = LLAMA_13B.weight_bytes("bfloat16")
    assert saved == pinned_weight_bytes(LLAMA_13B, offload) - weights


@pytest.mark.parametrize(("micro", "below"), [(8, [4, 2, 1]), (6, [3, 1]), (7, [1]), (1, [])])
def test_the_micro_batch_is_halved_as_long_as_it_divides(micro, below):
    finetune = Finetune(micro_batch_size=micro)
    names = [rung.name for rung in rungs_of(finetune) if rung.name.startswith("micro")]
    assert names == [f"micro batch {size}" for size in below]


def test_a_ladder_of_preferences_halves_pairs_and_stays_with_them():
    ladder = rungs_of(Finetune(method="dpo", beta=0.3, micro_batch_size=4, processes=2))
    assert ladder[1].changes.startswith("2 pair(s) per device")
    assert {(rung.settings.method, rung.settings.beta) for rung in ladder} == {("dpo", 0.3)}
    gpu = [training_memory(LLAMA_13B, rung.settings).gpu_bytes for rung in ladder[:3]]
    assert gpu == sorted(gpu, reverse=True)


def test_on_the_cpu_nothing_is_offloaded_or_quantized():
    cpu = ORIGINAL.model_copy(update={"device": "cpu"})
    assert [rung.name for rung in rungs_of(cpu)] == [
        "as asked",
        "micro batch 1",
        "gradient checkpointing",
        "ZeRO-3",
    ]


def test_4_bits_under_zero_3_need_less_of_each_gpu_than_a_whole_copy_once_tokens_are_many():
    long = Finetune(processes=8, micro_batch_size=1, max_length_tokens=8192)
    whole, divided = (training_memory(LLAMA_13B, r.settings).gpu_bytes for r in rungs_of(long)[-2:])
    assert divided < 0.85 * whole


def test_one_gpu_has_nothing_to_divide_4_bit_weights_with():
    assert rungs_of(ORIGINAL.model_copy(update={"processes": 1}))[-1].name == "4-bit"


def test_a_recipe_at_the_bottom_has_one_rung():
    bottom = rungs_of(ORIGINAL)[-1].settings
    assert [rung.name for rung in rungs_of(bottom)] == ["as asked"]
