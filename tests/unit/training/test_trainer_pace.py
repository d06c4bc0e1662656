import itertools
import math
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from tasks.core.training.events import MicroBatchDone, StepDone, TrainingEvent, from_line
from tasks.core.training.failures import NotFinite
from tasks.core.training.trainer.pace import ProgressReports


class Training:
    """A training of four steps of three micro batches, as the callback sees one."""

    def __init__(self, seen: ProgressReports, tmp_path: Path, *, at_step: int = 0) -> None:
        self.seen, self.control = seen, TrainerControl()
        self.args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
        self.state = TrainerState(max_steps=4, global_step=at_step, is_world_process_zero=True)
        seen.on_train_begin(self.args, self.state, self.control)

    def micro_batches(self, number: int) -> None:
        self.seen.on_step_begin(self.args, self.state, self.control)
        for _ in range(number):
            self.seen.on_substep_end(self.args, self.state, self.control)

    def step_ends(self, loss: float = 2.0) -> None:
        self.state.global_step += 1
        logs = {"loss": loss, "learning_rate": 1e-3}
        self.seen.on_log(self.args, self.state, self.control, logs)


def said(capsys: pytest.CaptureFixture[str]) -> list[TrainingEvent | None]:
    return [from_line(line) for line in capsys.readouterr().out.splitlines()]


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    training = Training(ProgressReports(lambda: 3), tmp_path)
    with pytest.raises(NotFinite, match="step 1: the loss is nan"):
        training.step_ends(loss=math.nan)


def test_a_long_step_tells_its_micro_batches_with_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count(
        100.0, 10.0
    ).__next__  # each look at it is ten seconds after the one before
    training = Training(ProgressReports(lambda: 3, clock=clock), tmp_path)  # looks at 100 s
    training.micro_batches(2)  # the step begins at 110 s
    first, second = said(capsys)
    assert first == MicroBatchDone(1, 4, 1, 3, elapsed_s=10.0, left_s=pytest.approx(20.0 * 11))
    assert second == MicroBatchDone(1, 4, 2, 3, elapsed_s=20.0, left_s=pytest.approx(15.0 * 10))


def test_a_resumed_training_estimates_by_its_own_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count(100.0, 10.0).__next__
    training = Training(ProgressReports(lambda: 2, clock=clock), tmp_path, at_step=3)
    training.micro_batches(1)
    assert said(capsys) == [MicroBatchDone(4, 4, 1, 2, elapsed_s=10.0, left_s=pytest.approx(20.0))]


def test_quick_steps_tell_no_micro_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(ProgressReports(lambda: 3, quiet_s=math.inf), tmp_path)
    training.micro_batches(2)
    training.step_ends()
    (event,) = said(capsys)
    assert isinstance(event, StepDone)
    assert (event.step, event.total_steps) == (1, 4)


def test_only_the_first_process_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(ProgressReports(lambda: 3, quiet_s=0.0), tmp_path)
    training.state.is_world_process_zero = False
    training.micro_batches(2)
    training.step_ends()
    assert said(capsys) == []
