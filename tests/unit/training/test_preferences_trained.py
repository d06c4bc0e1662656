"""Real trainings by preference through DeepSpeed: killed, resumed, divided, diverged."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.core.errors import DataError
from tasks.core.recipe import Finetune, Lora
from tasks.core.training.attempt import TrainedAdapter, run_attempt
from tasks.core.training.failures import StopReason, TrainingStopped
from tasks.core.training.launch import command
from tasks.core.training.request import TrainingRequest
from tests.models import tiny_llama
from tests.prefork import preforked_quick_start
from tests.unit.training.pairs import write_preferences
from tests.unit.training.test_attempt import adapter_of, killing_trainers_at, same

SETTINGS = Finetune(
    method="dpo",
    lora=Lora(dropout=0.1),
    epochs=3,
    micro_batch_size=2,
    gradient_accumulation_steps=2,
    learning_rate=1e-2,
    warmup_ratio=0.0,
    precision="float32",
    max_length_tokens=512,
    validation_share=0.3,
    zero_stage=2,
    device="cpu",
    save_steps=2,
    save_total_limit=2,
    language=None,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_preferences(tmp_path_factory.mktemp("data") / "pairs.jsonl", 16)


def train(
    model: Path, data: Path, out: Path, settings: Finetune = SETTINGS, **options: Any
) -> TrainedAdapter:
    out.mkdir(exist_ok=True)
    return run_attempt(TrainingRequest(model, settings, data, "vicuna_v1.1", out, **options))


@pytest.fixture(scope="module")
def undisturbed(
    model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedAdapter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "quick_start", preforked_quick_start)
        return train(model, data, tmp_path_factory.mktemp("undisturbed"))


def test_conversations_are_refused_before_anything_is_started(model: Path, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Ya."}]
    data = tmp_path / "conversation.json"
    data.write_text(json.dumps([{"id": "a", "conversations": turns}]))
    with pytest.raises(DataError, match=r"method: sft"):
        train(model, data, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_preferred_answers_become_likelier_than_the_others_on_held_out_pairs(
    undisturbed: TrainedAdapter,
) -> None:
    last = undisturbed.validation[-1]
    assert undisturbed.steps[0].loss == pytest.approx(0.693147, abs=1e-5)
    assert last.loss is not None
    assert last.loss < 0.66
    assert last.margin is not None
    assert last.margin > 0.05
    assert last.preferred == 1
    kept = json.loads((undisturbed.adapter.parent / "training.json").read_text())
    assert (kept["settings"]["method"], kept["settings"]["beta"]) == ("dpo", 0.1)
    assert kept["validation"][-1]["margin"] == last.margin
    assert kept["data"]["conversations"] == 12


@pytest.mark.slow
def test_a_killed_training_by_preference_resumes_to_the_same_bits(
    model: Path, data: Path, undisturbed: TrainedAdapter, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(TrainingStopped) as caught:
        train(model, data, out, on_line=killing_trainers_at(5, out))
    assert caught.value.reason is StopReason.KILLED
    resumed = train(model, data, out)
    assert (resumed.resumed_from_step, resumed.restarted_for) == (4, ())
    assert same(resumed, undisturbed)
    assert resumed.steps == undisturbed.steps
    assert resumed.validation == undisturbed.validation


@pytest.mark.slow
def test_a_training_by_preference_goes_on_when_its_states_are_divided_otherwise(
    model: Path, data: Path, undisturbed: TrainedAdapter, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(TrainingStopped):
        train(model, data, out, on_line=killing_trainers_at(5, out))
    resumed = train(model, data, out, SETTINGS.model_copy(update={"zero_stage": 0}))
    assert (resumed.resumed_from_step, resumed.restarted_for) == (4, ())
    margins = [each.validation[-1].margin for each in (resumed, undisturbed)]
    assert margins[0] == pytest.approx(margins[1], rel=0.01)


@pytest.mark.slow
def test_two_processes_under_zero_3_learn_the_same_preferences(
    model: Path, data: Path, tmp_path: Path
) -> None:
    plain = SETTINGS.model_copy(update={"lora": Lora(dropout=0.0), "max_steps": 4})
    divided = {"processes": 2, "gradient_accumulation_steps": 1, "zero_stage": 3}
    alone = train(model, data, tmp_path / "alone", plain)
    both = train(model, data, tmp_path / "both", plain.model_copy(update=divided))
    losses = [[step.loss for step in each.steps] for each in (alone, both)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert alone.validation[-1].margin == pytest.approx(both.validation[-1].margin, rel=1e-3)
    for name, one in adapter_of(alone).items():  # sums in another order, four steps of Adam
        assert torch.allclose(one, adapter_of(both)[name], rtol=1e-2, atol=1e-4)


@pytest.mark.slow
def test_pairs_whose_loss_is_not_finite_stop_the_training(
    model: Path, data: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"].float() * 1e38
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingStopped) as caught:
        train(broken, data, tmp_path / "out")
    assert caught.value.reason is StopReason.NOT_FINITE
