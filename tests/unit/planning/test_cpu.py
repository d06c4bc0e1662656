"""What a plan says of a CPU: times, and types that it has no units for."""

from dataclasses import replace

import pytest

from tasks.core.machine.cpu import Cpu
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.plan import Plan, plan_recipe
from tasks.core.planning.shape import LLAMA_7B, LLAMA_13B, ModelShape
from tasks.core.planning.stages import Sizes
from tasks.core.planning.text import ladder_text, plan_text
from tasks.core.planning.times import answer_tokens_per_s, training_seconds_on_cpu
from tasks.core.planning.training_fit import fit_training
from tasks.core.recipe import Deploy, Edit, Evaluate, Finetune, Lora, Recipe
from tasks.core.units import GB
from tests.machines import AVX2, NATIVE

SMOLLM2 = ModelShape(30, 576, 1536, 9, 3, 64, 49_152)
EPYC = Cpu("AMD EPYC", ("avx2",))
XEON = Cpu("Xeon", ("avx512f", "avx512_bf16"), ("float32", "bfloat16"))
ALL_LINEAR = Lora(target_modules="all-linear")
SIZES = Sizes(training_tokens=70_000, conversation_tokens=480.0)


def finetune(**changes) -> Finetune:
    given = {"precision": "float32", "zero_stage": 0, "max_length_tokens": 512, **changes}
    return Finetune(device="cpu", **given)


def machine(cpu: Cpu = EPYC, speed=AVX2, *, free_gb: int = 16) -> Hardware:
    return Hardware(16 * GB, free_gb * GB, 500 * GB, 2, (), cpu=cpu, cpu_speed=speed)


def planned(hardware: Hardware | None = None, shape=SMOLLM2, **parts) -> Plan:
    given = {
        "edit": Edit(),
        "finetune": finetune(),
        "evaluate": Evaluate(device="cpu"),
        "deploy": Deploy(device="cpu", load_8bit=False),
        **parts,
    }
    recipe = Recipe().model_copy(update=given)
    return plan_recipe(recipe, hardware or machine(), shape, sizes=SIZES)


def seconds(made: Plan) -> dict[str, float | None]:
    return {stage.need.name: stage.need.seconds for stage in made.stages}


def tokens_per_s(shape=SMOLLM2, speed=AVX2, **changes) -> float:
    """Return the rate of a training so long that its start does not count."""
    tokens = 10**9
    took = training_seconds_on_cpu(shape, finetune(**changes), speed, tokens)
    assert took is not None
    return tokens / took


@pytest.mark.parametrize(("precision", "seen"), [("float32", 121), ("bfloat16", 2.4)])
def test_a_lora_step_of_smollm2_on_two_avx2_cores_takes_what_was_seen(precision, seen):
    planned = tokens_per_s(precision=precision, lora=ALL_LINEAR, gradient_checkpointing=False)
    assert seen / 1.5 < planned < seen * 1.5


def test_a_large_model_trains_at_nearly_the_speed_of_its_products():
    products = (
        4 * LLAMA_13B.multiplied_params * tokens_per_s(LLAMA_13B, gradient_checkpointing=False)
    )
    assert 0.7 < products / AVX2.types["float32"].forward_flops_per_s < 1


def test_checkpointing_takes_another_forward_pass():
    without, with_it = (tokens_per_s(gradient_checkpointing=on) for on in (False, True))
    assert 1.1 < without / with_it < 1.5


def test_preferences_take_another_forward_pass_of_the_reference():
    conversations, pairs = (tokens_per_s(method=method) for method in ("sft", "dpo"))
    assert 1.1 < conversations / pairs < 1.5


def test_processes_share_the_cores_of_one_machine():
    assert tokens_per_s(processes=2) == tokens_per_s(processes=1)


def test_a_type_that_was_not_measured_has_no_time():
    no_brain = AVX2.model_copy(update={"types": {"float32": AVX2.types["float32"]}})
    assert training_seconds_on_cpu(SMOLLM2, finetune(precision="bfloat16"), no_brain, 1.0) is None
    assert answer_tokens_per_s(SMOLLM2, "bfloat16", no_brain) is None


def test_every_stage_of_a_recipe_for_the_cpu_has_a_time_and_the_plan_their_sum():
    made = planned()
    times = seconds(made)
    assert all(times[name] for name in ("finetune", "evaluate", "deploy"))
    assert made.seconds == sum(time for time in times.values() if time)
    assert made.as_dict()["seconds"] == made.seconds


def test_steps_of_short_conversations_take_less_than_those_of_full_length():
    some = finetune(max_steps=20)
    short, full = (
        fit_training(SMOLLM2, some, machine(), conversation_tokens=tokens).rungs[0].seconds
        for tokens in (100.0, None)
    )
    assert short and full and short < full


def test_a_chain_of_more_models_takes_longer_to_evaluate():
    lean, whole = planned(edit=None, finetune=None), planned()
    assert (seconds(lean)["evaluate"] or 0) < (seconds(whole)["evaluate"] or 0)


def test_more_and_longer_answers_take_longer_to_evaluate():
    few, many = (
        planned(evaluate=Evaluate(device="cpu", max_prompts=prompts, max_new_tokens=length))
        for prompts, length in ((1, 8), (8, 256))
    )
    assert (seconds(few)["evaluate"] or 0) < (seconds(many)["evaluate"] or 0)


def test_a_model_that_does_not_fit_is_read_again_and_again_while_it_is_evaluated():
    roomy, tight = (
        planned(machine(XEON, NATIVE, free_gb=free), shape=LLAMA_7B, finetune=None, deploy=None)
        for free in (64, 8)
    )
    assert (seconds(tight)["evaluate"] or 0) > 2 * (seconds(roomy)["evaluate"] or 0)


def test_answers_are_as_fast_as_the_memory_is_read():
    small, large = (answer_tokens_per_s(shape, "float32", AVX2) for shape in (SMOLLM2, LLAMA_13B))
    assert small and large and small > 20 * large
    assert large < AVX2.types["float32"].read_bytes_per_s / (4 * LLAMA_13B.multiplied_params)


def test_the_text_says_the_whole_time_before_anything_else():
    lines = plan_text(planned()).splitlines()
    assert lines[2].startswith("Takes about ")
    assert "for finetune." in lines[2]
    assert "tokens a second" in plan_text(planned())
    assert "AMD EPYC, avx2, measured: 152 GFLOP/s" in plan_text(planned())


def test_a_machine_that_cannot_be_measured_is_planned_without_times_of_the_cpu():
    made = planned(machine(speed=None))
    assert seconds(made)["finetune"] is seconds(made)["evaluate"] is made.seconds is None
    text = plan_text(made)
    assert "The time is not measured: finetune, evaluate." in text
    assert "Speed of an answer: not measured." in text


def test_8_bits_on_the_cpu_are_told_to_be_slower():
    assert "8 bits are slower" in plan_text(planned(deploy=Deploy(device="cpu")))


def test_16_bits_without_units_are_told_in_the_first_lines_with_their_cost_and_the_remedy():
    slow = planned(finetune=finetune(precision="bfloat16"))
    line = plan_text(slow).splitlines()[3]
    assert "44 times slower than float32" in line
    assert "AMD EPYC" in line
    assert "finetune.precision: float32" in line
    assert slow.as_dict()["warnings"] == list(slow.warnings)
    assert planned().warnings == ()


def test_16_bits_without_units_are_told_where_nothing_was_measured_too():
    (text,) = planned(machine(speed=None), finetune=finetune(precision="bfloat16")).warnings
    assert "not measured" in text
    assert "finetune.precision: float32" in text


@pytest.mark.parametrize("speed", [NATIVE, None])
def test_16_bits_with_units_are_nothing_to_warn_of(speed):
    assert planned(machine(XEON, speed), finetune=finetune(precision="bfloat16")).warnings == ()


def test_units_that_are_slow_all_the_same_are_told():
    """The measurement counts for more than what the kernel shows: torch may not use the units."""
    (text,) = planned(machine(XEON, AVX2), finetune=finetune(precision="bfloat16")).warnings
    assert "44 times slower" in text


def test_a_dry_run_of_the_fine_tune_tells_it_first():
    fit = fit_training(SMOLLM2, finetune(precision="bfloat16"), machine())
    assert "44 times slower" in ladder_text(fit).splitlines()[0]


def test_a_training_of_days_is_told_in_the_first_lines():
    made = planned(shape=LLAMA_7B, finetune=finetune(epochs=20))
    line = plan_text(made).splitlines()[3]
    assert "The fine-tune takes about " in line
    assert " days" in line
    assert "max_steps" in line


def test_evaluation_in_a_slow_type_for_want_of_memory_is_told_with_what_would_do():
    made = planned(machine(free_gb=16), shape=LLAMA_7B, finetune=None, deploy=None)
    (text,) = made.warnings
    assert "27.0 GB of memory" in text
    assert "times slower" in text
    assert planned(machine(free_gb=64), shape=LLAMA_7B, finetune=None, deploy=None).warnings == ()


def test_a_native_type_that_evaluates_slowly_is_not_told_to_be_for_want_of_memory():
    """torch may not use the units; there is memory, and no setting makes it faster."""
    native = replace(XEON, native=("float32", "float16"))
    roomy = machine(native, AVX2, free_gb=64)
    assert planned(roomy, shape=LLAMA_7B, finetune=None, deploy=None).warnings == ()


def test_nothing_is_said_of_the_cpu_of_a_machine_that_is_only_named():
    named = replace(machine(speed=None), gpus_named=True)
    assert planned(named, finetune=finetune(precision="bfloat16")).warnings == ()
