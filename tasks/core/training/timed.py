"""Checkpoints that are due by time, so that a kill costs minutes however long a step takes.

The invariant: all processes decide the same, since writing a checkpoint is the work of all of them.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class CheckpointsInTime(TrainerCallback):
    """Has a checkpoint written at the end of the first step that ends `every_s` after the last one.

    The clock is that of the first process.
    """

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._saved_s = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self._saved_s = self._clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Called by every process after each step."""
        is_due = self._clock() - self._saved_s >= self._every_s
        if _as_the_first_process_says(is_due, args.device):
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock anew, whatever the checkpoint was due by."""
        self._saved_s = self._clock()


def _as_the_first_process_says(is_due: bool, device: torch.device) -> bool:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return is_due
    said = torch.tensor([is_due], dtype=torch.uint8, device=device)
    dist.broadcast(said, src=0)
    return bool(said.item())
