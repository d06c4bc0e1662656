"""The ladder with a real limit: the kernel kills the training, and the caller trains on."""

import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tasks.core.recipe import Finetune
from tests.memory_group import memory_group
from tests.models import tiny_llama

ROOT = Path(__file__).parents[3]
LIMIT_BYTES = 2200 << 20
LONG_TOKENS = 1000  # with the activations of 32 layers: 8 at once need far more than the limit
SETTINGS = Finetune(
    device="cpu",
    language=None,
    epochs=1,
    micro_batch_size=8,
    gradient_accumulation_steps=1,
    gradient_checkpointing=False,
    zero_stage=0,
    precision="float32",
    max_length_tokens=1024,
    learning_rate=1e-2,
    warmup_ratio=0.0,
    save_steps=1,
)

# Moves into the group with all that it will start, and is what must survive there.
TRAINS = """
import json, pathlib, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text("0")
from tasks.core.recipe import Finetune
from tasks.core.training.ladder import train_down_the_ladder
from tasks.core.training.request import TrainingRequest
model, data, out, home = map(pathlib.Path, sys.argv[2:6])
settings = Finetune.model_validate_json(sys.argv[6])
say = lambda line: print(line, file=sys.stderr)
request = TrainingRequest(model, settings, data, "vicuna_v1.1", out, on_line=say)
made = train_down_the_ladder(request, home)
print(json.dumps({
    "rung": made.rung.name,
    "settings": made.rung.settings.model_dump(mode="json"),
    "steps_down": [step.model_dump(mode="json") for step in made.steps_down],
    "resumed_from_step": made.trained.resumed_from_step,
    "steps": [step.model_dump() for step in made.trained.steps],
}))
"""


def conversation(number: int, words: int) -> dict[str, Any]:
    """Words of four letters drawn at random: no conversation is like another."""
    draw = random.Random(number)  # noqa: S311
    said = ["".join(draw.choices("abcdefghij", k=4)) for _ in range(words)]
    turns = [("human", f"apa {said[0]}"), ("gpt", " ".join(said))]
    return {
        "id": str(number),
        "conversations": [{"from": speaker, "value": text} for speaker, text in turns],
    }


def preference(number: int, words: int) -> dict[str, Any]:
    """The words of two conversations as answers to one question."""
    record = conversation(2 * number, words)
    chosen = record["conversations"].pop()["value"]
    rejected = conversation(2 * number + 1, words)["conversations"][1]["value"]
    return record | {"chosen": chosen, "rejected": rejected}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_the_kernel_kills_the_training_and_the_ladder_trains_on(
    tmp_path: Path, method: str
) -> None:
    sides = 2 if method == "dpo" else 1
    batch = SETTINGS.micro_batch_size // sides
    settings = SETTINGS.model_copy(update={"method": method, "micro_batch_size": batch})
    record = preference if method == "dpo" else conversation
    model = tiny_llama(tmp_path / "model", layers=32, hidden=128)
    data, out = tmp_path / "conversation.json", tmp_path / "out"
    out.mkdir()
    words = (LONG_TOKENS - 230) // 5
    data.write_text(json.dumps([record(i, words) for i in range(4 * batch)]))
    with memory_group(LIMIT_BYTES) as group:
        paths = (group, model, data, out, tmp_path)
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(TRAINS), *map(str, paths),
             settings.model_dump_json()],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    made = json.loads(ended.stdout.splitlines()[-1])

    assert made["rung"].startswith("micro batch")
    assert {step["reason"] for step in made["steps_down"]} == {"the machine ran out of memory"}
    lower = Finetune.model_validate(made["settings"])
    assert lower.micro_batch_size * lower.gradient_accumulation_steps == batch
    # The longest is in the first step: no other one was taken for nothing.
    assert {step["kept_step"] for step in made["steps_down"]} == {None}
    assert made["resumed_from_step"] is None
    assert [step["step"] for step in made["steps"]] == [1, 2, 3, 4]
    assert len([line for line in ended.stderr.splitlines() if line.startswith("step 1/4, ")]) == 1
    assert made["steps"][-1]["loss"] < made["steps"][0]["loss"]
