"""The trainer's callbacks: a step's rate, the last log, an epoch's order, whole checkpoints."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.training.batching.grouping import LengthGroups
from tasks.core.training.checkpoints.directory import mark_whole, prune_checkpoints


class RateOfStep(TrainerCallback):
    """Remembers the learning rate that a step starts with."""

    value = 0.0

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: torch.optim.Optimizer | None = None,
        **_: Any,
    ) -> None:
        """Read the rate from the optimizer, before DeepSpeed moves the schedule on."""
        if optimizer is not None:
            self.value = float(optimizer.param_groups[0]["lr"])


class LastStepLogged(TrainerCallback):
    """Logs the last step as well, so that a training never ends without a loss."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a log after the last step."""
        if state.global_step >= state.max_steps:
            control.should_log = True


class OrderOfEpoch(TrainerCallback):
    """Sets the epoch of the order of examples, in a resumed epoch too.

    The data loader sets it as well, but not where accelerate divides the batches between processes
    and skips those before a checkpoint: the rest of that epoch then came in the order of the first
    one, so that some conversations were learned twice and others not at all.
    """

    def __init__(self, order: LengthGroups) -> None:
        self._order = order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """state.epoch counts completed epochs, with a fraction after a checkpoint within one."""
        self._order.set_epoch(int(state.epoch or 0))


class WholeCheckpoints(TrainerCallback):
    """Marks a checkpoint whole once all processes have written it; only then removes old ones."""

    def __init__(self, keep: int) -> None:
        self._keep = keep

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Skip the checkpoint after the last step: the adapter itself is written next."""
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Act once this process's own part is written; every process calls it."""
        if dist.is_initialized():
            dist.barrier()
        if state.is_world_process_zero:
            directory = Path(str(args.output_dir))
            mark_whole(directory / f"checkpoint-{state.global_step}")
            prune_checkpoints(directory, self._keep)
