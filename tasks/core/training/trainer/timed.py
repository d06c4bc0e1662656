"""Checkpoints by time, so that a crash costs minutes however long a step takes.

Also the checkpoint of a training that is asked to end (SIGTERM): after the current step, if that
ends in time (`stop_request`). The invariant: all processes decide the same, because they all take
part in writing a checkpoint.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.training.trainer.stop_request import StopRequest


class TimedCheckpoints(TrainerCallback):
    """Requests a checkpoint after the first step that ends `every_s` or more after the last one.

    The clock is that of the first process. Once any process was asked to end, all of them write a
    checkpoint after the same step and stop.
    """

    def __init__(
        self,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
        asked: StopRequest | None = None,
    ) -> None:
        self._every_s = every_s
        self._clock = clock
        self._asked = asked or StopRequest()
        self._saved_s = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock, and note requests to end from now on."""
        self._saved_s = self._clock()
        self._asked.listen()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Note when the step starts."""
        self._asked.step_begins()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Act after each step, in every process."""
        self._asked.step_ends()
        is_due = self._clock() - self._saved_s >= self._every_s
        is_due, ends = _agreed(is_due, self._asked.is_asked, args.device)
        if is_due or ends:
            control.should_save = True
        if ends:
            control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Restart the clock after every checkpoint, whatever requested it."""
        self._saved_s = self._clock()


def _agreed(is_due: bool, is_asked: bool, device: torch.device) -> tuple[bool, bool]:
    """Return whether a checkpoint is due for the first process, and whether any was asked to end.

    One message between the processes decides both, since each message waits for the device.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return is_due, is_asked
    counts = is_due and dist.get_rank() == 0
    said = torch.tensor([counts, is_asked], dtype=torch.uint8, device=device)
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    due, ends = said.tolist()
    return bool(due), bool(ends)
