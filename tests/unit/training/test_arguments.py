"""What Trainer is told, seen in a process of its own: TrainingArguments joins a process group."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.core.recipe import Finetune
from tasks.core.training.job import TrainingJob
from tasks.core.training.launch.start import training_environment
from tests.prefork import preforked

CHANGED = Finetune(
    device="cpu",
    precision="float32",
    logging_steps=5,
    max_grad_norm=0.3,
    save_steps=7,
    weight_decay=0.1,
    lr_scheduler="linear",
    warmup_ratio=0.1,
    seed=7,
    report_to=("tensorboard",),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """TrainingArguments as the entry makes them of a job by default, and of one of CHANGED."""
    root = tmp_path_factory.mktemp("jobs")
    default, changed = Finetune(device="cpu"), CHANGED
    files = [
        write_job(root / "default.json", default, None),
        write_job(root / "changed.json", changed, 3),
    ]
    shown = root / "arguments.json"
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    subprocess.run(
        preforked("torch", "tests.unit.training.shows_arguments", str(shown), *files),
        env={**training_environment(default, os.environ), **alone, "MASTER_PORT": "0"},
        check=True,
        capture_output=True,
    )
    return list(json.loads(shown.read_bytes()))


def write_job(file: Path, settings: Finetune, validation_interval: int | None) -> str:
    job = TrainingJob.model_validate(
        {
            **dict.fromkeys(TrainingJob.model_fields, file.parent),
            **{"settings": settings, "total_steps": 12, "pad_token_id": 0},
            "group_size": None,
            "validation_interval": validation_interval,
        }
    )
    job.write(file)
    return str(file)


def test_without_options_trainer_is_told_what_the_original_command_said(
    told: list[dict[str, Any]],
) -> None:
    expected = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 16,
        "learning_rate": 2e-5,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
        "weight_decay": 0.0,
        "bf16": True,
        "fp16": False,
        "save_steps": 1200,
        "logging_steps": 1,
        "max_grad_norm": 1.0,
        "report_to": [],
        "use_cpu": True,
        "max_steps": 12,
        "eval_strategy": "no",
    }
    assert {name: told[0][name] for name in expected} == expected


def test_what_the_recipe_changes_reaches_trainer(told: list[dict[str, Any]]) -> None:
    expected = {
        "eval_strategy": "steps",
        "eval_steps": 3,
        "bf16": False,
        "logging_steps": 5,
        "max_grad_norm": 0.3,
        "save_steps": 7,
        "weight_decay": 0.1,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "seed": 7,
        "report_to": ["tensorboard"],
    }
    assert {name: told[1][name] for name in expected} == expected
