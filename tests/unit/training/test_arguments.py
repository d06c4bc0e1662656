"""What Trainer is told, seen in a process of its own: TrainingArguments joins a process group."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.core.recipe import Finetune
from tasks.core.training.job import TrainingJob
from tasks.core.training.launch import environment

SHOWS = """
import json, sys
from pathlib import Path
from tasks.core.training.entry import _arguments, _leave_uncompiled
from tasks.core.training.job import TrainingJob
job = TrainingJob.model_validate_json(Path(sys.argv[1]).read_bytes())
_leave_uncompiled(job.settings)
arguments = _arguments(job).to_dict()
Path(sys.argv[2]).write_text(json.dumps(arguments, default=str))
"""


def arguments_of(
    settings: Finetune, tmp_path: Path, *, validation_interval: int | None = None
) -> dict[str, Any]:
    """Return TrainingArguments as the entry makes them of a job with these settings."""
    job = TrainingJob.model_validate(
        {
            **dict.fromkeys(TrainingJob.model_fields, tmp_path),
            **{"settings": settings, "total_steps": 12, "pad_token_id": 0},
            "group_size": None,
            "validation_interval": validation_interval,
        }
    )
    job_file, shown = tmp_path / "job.json", tmp_path / "arguments.json"
    job.write(job_file)
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    subprocess.run(
        [sys.executable, "-c", SHOWS, str(job_file), str(shown)],
        env={**environment(settings, os.environ), **alone, "MASTER_PORT": "0"},
        check=True,
        capture_output=True,
    )
    return dict(json.loads(shown.read_bytes()))


def test_without_options_trainer_is_told_what_the_original_command_said(tmp_path: Path) -> None:
    arguments = arguments_of(Finetune(device="cpu"), tmp_path)
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
    assert {name: arguments[name] for name in expected} == expected


def test_what_the_recipe_changes_reaches_trainer(tmp_path: Path) -> None:
    settings = Finetune(
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
    arguments = arguments_of(settings, tmp_path, validation_interval=3)
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
    assert {name: arguments[name] for name in expected} == expected
