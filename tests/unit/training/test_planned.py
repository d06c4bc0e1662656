"""What is said before a training starts, without a recipe and its plan."""

import json
from pathlib import Path

import pytest

from tasks.core.machine import hardware
from tasks.core.recipe import Finetune
from tasks.core.training.planned import training_forecast
from tests.machines import AVX2
from tests.models import tiny_llama


@pytest.fixture(autouse=True)
def _two_avx2_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "measured_cpu_speed", lambda _: AVX2)


@pytest.mark.parametrize("config", [None, "{", '{"model_type": "gpt2"}'])
def test_of_a_model_that_cannot_be_planned_nothing_is_said(
    tmp_path: Path, config: str | None
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert training_forecast(tmp_path, Finetune(device="cpu"), tmp_path) == ()


def test_the_time_and_a_slow_type_are_said(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    data = tmp_path / "conversation.json"
    data.write_text(json.dumps([{"id": "a", "conversations": turns}]))
    settings = Finetune(device="cpu", data=data)
    time, slow = training_forecast(tiny_llama(tmp_path / "model"), settings, tmp_path)
    assert time.startswith("The training takes about ")
    assert "44 times slower" in slow
    assert "finetune.precision: float32" in slow
