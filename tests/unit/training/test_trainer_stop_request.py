"""A training that is asked to end, in processes of their own and in the trainer's."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.core.home import PROJECT
from tasks.core.process import is_running
from tasks.core.training.checkpoints.directory import last_whole, step_of
from tasks.core.training.launch.start import OWNER
from tasks.core.training.trainer.stop_request import TRAINING_GRACE_S
from tests.prefork import preforked
from tests.unit.training.test_attempt import (
    changed,
    data,
    model,
    out,
    same,
    train,
)

__all__ = ["data", "model", "out"]

_ASKS = """
import os, signal
from tasks.core.training.trainer.stop_request import StopRequest
now = [0.0]
asked = StopRequest(clock=lambda: now[0])
asked.listen()
asked.step_begins()
now[0] += {step_s}
asked.step_ends()
asked.step_begins()
os.kill(os.getpid(), signal.SIGTERM)
print(asked.is_asked)
"""


def asked_in_steps_of(step_s: float) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _ASKS.format(step_s=step_s)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_step_that_would_take_too_long_is_given_up_at_once() -> None:
    assert asked_in_steps_of(TRAINING_GRACE_S).returncode == -signal.SIGTERM


def test_step_that_ends_in_time_is_taken_to_its_end() -> None:
    ran = asked_in_steps_of(TRAINING_GRACE_S / 2)
    assert (ran.returncode, ran.stdout) == (0, "True\n")


def test_training_whose_caller_is_killed_leaves_the_step_that_it_was_in(
    model: Path, data: Path, out: Path
) -> None:
    settings = changed(epochs=400, save_steps=100_000)
    paths = [str(each) for each in (model, data, out)]
    with subprocess.Popen(
        preforked("torch", "tests.unit.training.trains", *paths, settings.model_dump_json()),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    ) as caller:
        assert caller.stdout is not None
        assert any(line.startswith("step 5/") for line in caller.stdout)
        caller.kill()
    job = (out / "work" / "job.json").resolve()
    while is_running(OWNER, str(job)):
        time.sleep(0.1)
    kept = last_whole(out / "work" / "checkpoints")
    assert kept is not None
    assert step_of(kept) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_training_that_is_asked_to_end_goes_on_at_the_step_that_it_was_in(
    model: Path, data: Path, out: Path, tmp_path: Path, processes: int
) -> None:
    settings = changed(
        epochs=40, save_steps=1000, processes=processes, gradient_accumulation_steps=1
    )
    seen: list[str] = []

    def stop_at_step_five(line: str) -> None:
        seen.append(line)
        if line.startswith("step 5/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        train(model, data, out, settings, on_line=stop_at_step_five)
    kept = last_whole(out / "work" / "checkpoints")
    assert kept is not None
    step = step_of(kept)
    assert step >= 5
    assert f"Training keeps step {step}." in stopped.value.__notes__

    resumed = train(model, data, out, settings)
    assert resumed.resumed_from_step == step
    assert same(resumed, train(model, data, tmp_path / "undisturbed", settings))
