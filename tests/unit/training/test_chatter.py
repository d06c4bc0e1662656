"""What a training lets a person read, and what it keeps for its log."""

import json
from pathlib import Path

from tasks.core.process import Cause, ChildResult
from tasks.core.recipe import Finetune
from tasks.core.training.attempt import run_attempt
from tasks.core.training.failures import StopReason, TrainingStopped
from tasks.core.training.request import TrainingRequest
from tests.models import WORDS, tiny_llama


def conversation(number: int) -> dict[str, object]:
    turns = [("human", " ".join(WORDS[number : number + 3])), ("gpt", " ".join(WORDS[:number]))]
    return {"id": str(number), "conversations": [{"from": f, "value": v} for f, v in turns]}


def test_libraries_write_into_the_log_and_a_person_reads_the_steps(tmp_path: Path) -> None:
    data, out, log = tmp_path / "data.json", tmp_path / "out", tmp_path / "finetune.log"
    data.write_text(json.dumps([conversation(number) for number in range(1, 5)]))
    out.mkdir()
    settings = Finetune(
        device="cpu",
        precision="float32",
        zero_stage=0,
        micro_batch_size=1,
        gradient_accumulation_steps=2,
        max_steps=2,
    )
    heard: list[str] = []
    model = tiny_llama(tmp_path / "model", layers=1)
    run_attempt(
        TrainingRequest(model, settings, data, "vicuna_v1.1", out, on_line=heard.append, log=log)
    )
    assert sum(line.startswith("step ") for line in heard) == 2
    # The second kind is said only if a step takes long.
    assert all(line.startswith(("step ", "micro batch ")) for line in heard)
    whole = log.read_text()
    assert "tasks.core.training.entry" in whole
    assert len(whole.splitlines()) > 1 + len(heard), "the libraries said something"
    assert "Gradient accumulation steps mismatch" not in whole


def test_a_training_that_stops_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "finetune.log"
    child = ChildResult(1, Cause.ERROR, ("Traceback",), 0, 0.0, log)
    assert f"where: {log}" in str(TrainingStopped(StopReason.ERROR, child, "Traceback", None))
