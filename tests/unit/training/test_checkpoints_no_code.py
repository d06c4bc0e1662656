"""A checkpoint that would run code is not gone on from, wherever it came from."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.core.errors import CorruptWeights, UnsafeWeights
from tasks.core.training.checkpoints.directory import CHECKPOINTS, mark_whole
from tasks.core.training.checkpoints.no_code import require_no_code
from tasks.core.training.prepare import prepare_job
from tasks.core.training.request import TrainingRequest
from tasks.core.training.result import WORK_DIRECTORY
from tasks.core.weights.index import read_index
from tests.models import tiny_llama
from tests.unit.training.test_attempt import SETTINGS, TEMPLATE, data

__all__ = ["data"]  # the fixture

DEEPSPEED = Path("global_step2", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")


class RunsCode:
    """Unpickles to a call that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.trace}",))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """What transformers and DeepSpeed leave, but for DeepSpeed's own classes."""
    path = tmp_path / "checkpoint-2"
    (path / "global_step2").mkdir(parents=True)
    (path / "latest").write_text("global_step2")
    (path / "zero_to_fp32.py").write_text("a tool for people")
    (path / "trainer_state.json").write_text("{}")
    torch.save({"optimizer": {"step": 2, "exp_avg": torch.ones(4)}}, path / DEEPSPEED)
    states = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    torch.save(states, path / "rng_state_0.pth")
    return path


def test_tensors_numbers_and_generators_are_let_through(checkpoint: Path) -> None:
    require_no_code(checkpoint)


@pytest.mark.parametrize("name", [str(DEEPSPEED), "rng_state_0.pth", "optimizer.pt", "other"])
def test_a_file_that_asks_for_code_is_refused_and_not_run(
    checkpoint: Path, tmp_path: Path, name: str
) -> None:
    torch.save({"step": 2, "payload": RunsCode(tmp_path / "ran")}, checkpoint / name)
    with pytest.raises(UnsafeWeights, match=r"posix\.system[\s\S]*Remove .*checkpoint-2"):
        require_no_code(checkpoint)
    assert not (tmp_path / "ran").exists()


def test_a_name_of_deepspeed_that_is_not_listed_is_refused(checkpoint: Path) -> None:
    """Its classes are many, and some do more than hold values."""
    from deepspeed.runtime.config import DeepSpeedConfig

    torch.save({"config": DeepSpeedConfig.__new__(DeepSpeedConfig)}, checkpoint / DEEPSPEED)
    with pytest.raises(UnsafeWeights, match="DeepSpeedConfig"):
        require_no_code(checkpoint)


def test_what_cannot_be_looked_at_is_not_loaded(checkpoint: Path) -> None:
    torch.save({"step": 2}, checkpoint / DEEPSPEED, _use_new_zipfile_serialization=False)
    with pytest.raises(CorruptWeights):
        require_no_code(checkpoint)


@pytest.mark.parametrize("elsewhere", ["../checkpoint-4", "/models/evil", "", "."])
def test_a_checkpoint_that_names_a_directory_outside_is_refused(
    checkpoint: Path, elsewhere: str
) -> None:
    (checkpoint / "latest").write_text(elsewhere)
    with pytest.raises(UnsafeWeights, match="outside itself"):
        require_no_code(checkpoint)


def test_a_training_looks_before_it_goes_on(tmp_path: Path, data: Path) -> None:
    model = read_index(tiny_llama(tmp_path / "model", layers=1))
    work = tmp_path / WORK_DIRECTORY
    request = TrainingRequest(model.directory, SETTINGS, data, TEMPLATE, tmp_path)
    prepare_job(model, request, SETTINGS)
    planted = work / CHECKPOINTS / "checkpoint-2"
    (planted / "global_step2").mkdir(parents=True)
    (planted / "division.txt").write_text("")
    (planted / "portable.safetensors").touch()
    torch.save({"payload": RunsCode(tmp_path / "ran")}, planted / DEEPSPEED)
    mark_whole(planted)
    with pytest.raises(UnsafeWeights, match=r"posix\.system"):
        prepare_job(model, request, SETTINGS)
    assert not (tmp_path / "ran").exists()
