import json
import subprocess
import sys

import pytest

from tasks.core.errors import RecipeError
from tasks.core.machine.gpus import parse_gpus
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.plan import Plan, plan_recipe
from tasks.core.planning.shape import LLAMA_7B, LLAMA_13B, LLAMA_30B
from tasks.core.planning.stages import Sizes
from tasks.core.planning.text import plan_text
from tasks.core.planning.training_fit import fit_training
from tasks.core.recipe import KAWAN_USAHA, Deploy, Edit, Finetune, Lora, RopeScalingEdit
from tasks.core.units import GB

ORIGINAL = Finetune(processes=2, zero_stage=2, gradient_checkpointing=False)


def machine(gpus: str | None = "2xL4", *, host_gb: int = 64, disk_gb: int = 500) -> Hardware:
    cards = parse_gpus(gpus) if gpus else ()
    return Hardware(host_gb * GB, host_gb * GB, disk_gb * GB, 8, cards)


def planned(hardware: Hardware, shape=LLAMA_13B, sizes=None, **parts) -> Plan:
    return plan_recipe(KAWAN_USAHA.model_copy(update=parts), hardware, shape, sizes=sizes)


def verdicts(made: Plan) -> dict[str, str]:
    return {stage.need.name: stage.verdict for stage in made.stages}


def test_13b_on_two_24_gb_cards_says_why_the_original_failed_and_what_works():
    training = fit_training(LLAMA_13B, ORIGINAL, machine("2x24GiB"))
    assert training.verdict == "fits from a lower rung"
    assert "26.0 GB" in (training.replicated or "")
    assert "original fine-tune" in (training.replicated or "")
    working = training.rungs[(training.first_fitting or 0) - 1]
    assert working.rung.name == "ZeRO-3"
    assert working.rung.settings.zero_stage == 3
    assert all(not rung.gpu_fits for rung in training.rungs[: working.number - 1])


def test_13b_with_zero_3_on_two_l4_fits_as_asked():
    training = fit_training(LLAMA_13B, Finetune(processes=2), machine())
    assert training.verdict == "fits"
    assert training.remedies == ()


def test_gpus_that_the_recipe_leaves_idle_are_offered():
    training = fit_training(LLAMA_13B, Finetune(), machine())
    assert training.verdict == "fits from a lower rung"
    offer = training.remedies[0]
    assert "finetune.processes: 2" in offer
    assert "gradient_accumulation_steps: 8" in offer
    wider = Finetune(processes=2, gradient_accumulation_steps=8)
    assert fit_training(LLAMA_13B, wider, machine()).verdict == "fits"


def test_where_no_rung_fits_a_larger_card_is_named_that_does_fit():
    training = fit_training(LLAMA_30B, Finetune(), machine("1x8GiB", host_gb=16))
    assert training.verdict == "does not fit"
    assert training.first_fitting is None
    advice = next(text for text in training.remedies if text.startswith("GPUs of at least"))
    card = advice.rstrip(".").rsplit(" ", 1)[1]
    assert fit_training(LLAMA_30B, Finetune(), machine(f"1x{card}", host_gb=16)).verdict != (
        "does not fit"
    )


def test_where_the_host_is_too_small_the_memory_that_would_do_is_named():
    small = machine("1x8GiB", host_gb=16)
    training = fit_training(LLAMA_13B, Finetune(), small)
    assert training.verdict == "does not fit"
    assert any("of host memory instead of 16.0 GB" in text for text in training.remedies)
    assert fit_training(LLAMA_13B, Finetune(), machine("1x8GiB", host_gb=64)).first_fitting


def test_without_a_gpu_training_does_not_fit_and_says_so():
    training = fit_training(LLAMA_7B, Finetune(), machine(None))
    assert training.verdict == "does not fit"
    assert "this machine has none" in training.reason


def test_more_processes_than_gpus_do_not_fit():
    training = fit_training(LLAMA_7B, Finetune(processes=4), machine("2xH100"))
    assert training.verdict == "does not fit"
    assert "4 process(es)" in training.reason


def test_the_smallest_gpu_decides():
    mixed = machine()
    mixed = Hardware(
        mixed.memory_bytes,
        mixed.memory_bytes,
        mixed.disk_free_bytes,
        8,
        (*parse_gpus("1xH100"), *parse_gpus("1xT4")),
    )
    fit = fit_training(LLAMA_13B, Finetune(processes=2), mixed)
    assert fit.verdict == "fits from a lower rung"
    assert fit.warnings == ("T4 has no bfloat16: set finetune.precision: float16.",)


def test_what_barely_fits_is_called_close():
    need = fit_training(LLAMA_13B, Finetune(processes=2), machine()).rungs[0].gpu_bytes
    tight = f"2x{need / 0.97 / (1 << 30):.4f}GiB"
    assert "close" in fit_training(LLAMA_13B, Finetune(processes=2), machine(tight)).reason


def test_a_lora_target_that_llama_lacks_is_refused():
    wrong = Finetune(lora=Lora(target_modules=("query_key_value",)))
    with pytest.raises(RecipeError):
        planned(machine(), finetune=wrong)


def test_a_full_disk_stops_the_plan_at_the_stage_that_fills_it():
    made = planned(machine(disk_gb=60))
    assert verdicts(made)["download"] == "fits"
    assert verdicts(made)["merge"] == "does not fit"
    assert made.verdict == "does not fit"
    assert "78.1 GB needed up to here, 60.0 GB free" in made.stages[1].reason


def test_the_disk_of_a_plan_is_the_sum_of_what_the_stages_keep():
    made = planned(machine(), finetune=Finetune(processes=2))
    assert made.disk_bytes == sum(stage.need.disk_bytes for stage in made.stages)
    assert made.disk_bytes > 4 * LLAMA_13B.weight_bytes("float16")


def test_evaluation_on_a_small_gpu_spills_into_the_host():
    def host(gpus):
        made = planned(machine(gpus, host_gb=16), deploy=None)
        return next(stage for stage in made.stages if stage.need.name == "evaluate")

    assert host("1x40GiB").verdict == "fits"
    assert host("1x8GiB").verdict == "does not fit"
    assert host("1x8GiB").need.host_bytes > host("1x40GiB").need.host_bytes


def test_13b_is_served_in_8_bits_on_one_24_gb_card_but_not_in_16():
    eight = planned(machine("1xL4")).serving
    sixteen = planned(machine("1xL4"), deploy=Deploy(load_8bit=False)).serving
    assert eight and eight.verdict == "fits"
    assert sixteen and sixteen.verdict == "does not fit"
    assert "deploy.load_8bit: true fits." in sixteen.remedies


def test_two_cards_are_offered_for_16_bits_where_they_are_there():
    serving = planned(machine("2xL4"), deploy=Deploy(load_8bit=False)).serving
    assert serving and "deploy.gpus: 2 with load_8bit: false fits." in serving.remedies
    spread = planned(machine("2xL4"), deploy=Deploy(load_8bit=False, gpus=2)).serving
    assert spread and spread.verdict == "fits"


def test_8_bits_on_two_cards_is_what_fastchat_cannot_do():
    serving = planned(machine("2xL4"), deploy=Deploy(gpus=2)).serving
    assert serving and serving.verdict == "does not fit"
    assert "one GPU only" in serving.reason


def test_a_longer_context_needs_a_larger_cache():
    edit = Edit(rope_scaling=RopeScalingEdit(factor=2.0))
    made = planned(machine("1xL4"), edit=edit).serving
    assert made and made.context_tokens == 4096


def test_two_13b_models_do_not_fit_beside_each_other_on_one_24_gb_card():
    beside, replaced = (
        planned(machine("1xL4"), deploy=Deploy(switch=switch)).serving
        for switch in ("side-by-side", "replace")
    )
    assert beside and beside.verdict == "fits"
    assert "deploy.switch: replace" in beside.remedies[0]
    assert replaced and replaced.remedies == ()


def test_fastchat_answers_five_at_once_and_others_as_many_as_fit():
    five, many = (
        planned(
            machine("1xL4"), LLAMA_7B, deploy=Deploy(engine=engine, load_8bit=False)
        ).serving.reason
        for engine in ("fastchat", "transformers")
    )
    assert "; 5 conversations of 2048 tokens at once" in five
    assert "; 8 conversations of 2048 tokens at once" in many


def test_serving_on_the_cpu_is_measured_against_host_memory():
    small, large = (
        planned(machine(None, host_gb=size), deploy=Deploy(device="cpu", load_8bit=False)).serving
        for size in (32, 64)
    )
    assert small and small.verdict == "does not fit"
    assert large and large.verdict == "fits"


def test_the_plan_is_json_and_has_every_rung_with_its_settings():
    made = planned(machine(), finetune=ORIGINAL, sizes=Sizes(training_tokens=10**6))
    document = json.loads(json.dumps(made.as_dict()))
    assert document["training"]["rungs"][4]["rung"]["settings"]["zero_stage"] == 3
    assert document["stages"][0]["need"]["name"] == "download"
    assert document["hardware"]["gpus"][0]["name"] == "L4"


def test_the_text_holds_verdict_ladder_terms_and_assumptions():
    text = plan_text(planned(machine(), finetune=ORIGINAL, sizes=Sizes(training_tokens=10**6)))
    assert text.startswith("kawan-usaha-13b: fits from a lower rung\n")
    for words in (
        "2 x L4",
        "ZeRO-3 with parameter offload",
        "no: GPU",
        "weights",
        "8 bits (chosen)",
    ):
        assert words in text
    assert "within a factor of two" in text
    assert max(len(line) for line in text.splitlines() if line.startswith((" ", "1", "2"))) < 100


def test_a_plan_without_fine_tuning_and_service_is_rendered_too():
    text = plan_text(planned(machine(None), finetune=None, deploy=None))
    assert "Fine-tune" not in text
    assert "Serving" not in text
    assert "no GPU" in text


def test_planning_loads_neither_torch_nor_transformers():
    program = (
        "import importlib, pkgutil, sys, tasks.core.planning as p\n"
        "for m in pkgutil.iter_modules(p.__path__, p.__name__ + '.'):\n"
        "    importlib.import_module(m.name)\n"
        "sys.exit(bool({'torch', 'transformers', 'pynvml'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_both_sums_of_the_disk_are_told_and_the_recipe_chooses():
    every, lean = planned(machine(disk_gb=90)), planned(machine(disk_gb=90), keep="released")
    assert (every.disk_bytes, every.disk_bytes_released) == (
        lean.disk_bytes,
        lean.disk_bytes_released,
    )
    assert verdicts(every)["fuse"] == "does not fit"
    assert set(verdicts(lean).values()) == {"fits"}
    for made in (every, lean):
        assert "105.6 GB with `keep: all`, at most 79.6 GB with `keep: released`" in plan_text(made)
    assert "the recipe says `keep: released`" in plan_text(lean)


def test_recipe_in_which_nothing_can_be_freed_is_told_one_sum():
    made = planned(machine(), delta=None, finetune=None)
    assert made.disk_bytes == made.disk_bytes_released
    assert "keep:" not in plan_text(made)
