"""The three ways to batch, trained for one step over all conversations: the same adapter."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tasks.core.recipe import Finetune, Lora
from tasks.core.training.attempt import run_attempt
from tasks.core.training.request import TrainingRequest
from tests.models import WORDS, tiny_llama

CONVERSATIONS = 6


def settings(**changes: object) -> Finetune:
    fixed: dict[str, object] = {
        "lora": Lora(dropout=0.0),
        "max_steps": 1,
        "micro_batch_size": CONVERSATIONS,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "warmup_ratio": 0.0,
        "precision": "float32",
        "max_length_tokens": 2048,
        "zero_stage": 2,
        "device": "cpu",
    }
    return Finetune.model_validate(fixed | changes)


@pytest.mark.slow
def test_a_step_over_all_conversations_is_the_same_however_they_are_batched(
    tmp_path: Path,
) -> None:
    model = tiny_llama(tmp_path / "model", layers=2)
    data = tmp_path / "conversation.json"
    said = [(" ".join(WORDS[i : i + 3]), " ".join(WORDS[: i + 1])) for i in range(CONVERSATIONS)]
    turns = [[{"from": "human", "value": q}, {"from": "gpt", "value": a}] for q, a in said]
    data.write_text(json.dumps([{"id": str(i), "conversations": t} for i, t in enumerate(turns)]))
    choices = {
        "pad": settings(),
        "group": settings(batching="group"),
        "pack": settings(batching="pack", micro_batch_size=1),
    }
    adapters = {}
    for name, chosen in choices.items():
        (tmp_path / name).mkdir()
        request = TrainingRequest(model, chosen, data, "vicuna_v1.1", tmp_path / name)
        result = run_attempt(request)
        adapters[name] = load_file(result.adapter / "adapter_model.safetensors")
    for name in ("group", "pack"):
        assert adapters[name].keys() == adapters["pad"].keys()
        for weight, tensor in adapters["pad"].items():
            # Adam's first step is learning_rate * sign(gradient), but for gradients near epsilon.
            close = (adapters[name][weight] - tensor).abs() < 1e-4
            assert close.float().mean() > 0.99, (name, weight)
