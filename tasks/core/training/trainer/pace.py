"""What a training reports while it runs: logged steps, validations, and its place within them."""

import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.training.events import (
    MicroBatchDone,
    StepDone,
    TrainingEvent,
    ValidationBatchDone,
    ValidationDone,
    to_line,
)
from tasks.core.training.failures import NotFinite

QUIET_S = 5.0
"""The least time between any report and the next report of a micro batch."""


@dataclass(frozen=True)
class _Mark:
    """The progress of the training at a moment. `tokens` excludes padding."""

    time_s: float
    step: int
    tokens: int


class ProgressReports(TrainerCallback):
    """Reports logged steps and validations and, within those longer than `quiet_s`, micro batches.

    Raises NotFinite for a loss that is not finite. `micro_batches` returns how many the current
    step has: the last step of an epoch may have fewer.
    """

    def __init__(
        self,
        micro_batches: Callable[[], int],
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._micro_batches = micro_batches
        self._quiet_s = quiet_s
        self._clock = clock
        self._begin = self._last = self._step = _Mark(0.0, 0, 0)
        self._said_s = 0.0
        self._validated_s = 0.0
        self._done = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self._begin = self._last = self._mark(state)
        self._said_s = self._begin.time_s

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock of the step."""
        self._step, self._done = self._mark(state), 0

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Act after each micro batch except the last of a step."""
        self._done += 1
        now = self._clock()
        if not state.is_world_process_zero or now - self._said_s < self._quiet_s:
            return
        in_a_step = self._micro_batches()
        share = self._done / in_a_step
        steps = self._step.step - self._begin.step + share
        left_steps = state.max_steps - self._step.step - share
        event = MicroBatchDone(
            step=self._step.step + 1,
            total_steps=state.max_steps,
            micro_batch=self._done,
            micro_batches=in_a_step,
            elapsed_s=now - self._step.time_s,
            left_s=left_steps * (now - self._begin.time_s) / steps,
        )
        self._say(event, now)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Log the mean loss, which is the same in every process."""
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise NotFinite(f"step {state.global_step}: the loss is {logs['loss']}")
        if state.is_world_process_zero:
            now, before = self._mark(state), self._last
            trained_s = now.time_s - before.time_s - self._validated_s
            steps, seconds = now.step - self._begin.step, now.time_s - self._begin.time_s
            event = StepDone(
                step=state.global_step,
                total_steps=state.max_steps,
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                tokens_per_s=(now.tokens - before.tokens) / trained_s,
                memory_bytes=_memory_bytes(),
                left_s=(state.max_steps - now.step) * seconds / max(1, steps),
            )
            self._last, self._validated_s = now, 0.0
            self._say(event, now.time_s)

    def validation_batch(self, state: TrainerState, done: int, micro_batches: int) -> None:
        """Act after each micro batch of a validation, in every process."""
        now = self._clock()
        if state.is_world_process_zero and now - self._said_s >= self._quiet_s:
            self._say(
                ValidationBatchDone(state.global_step, state.max_steps, done, micro_batches), now
            )

    def validation(
        self, state: TrainerState, found: Mapping[str, float], tokens: int, wall_s: float
    ) -> None:
        """Log the figures of a validation, which are the same in every process."""
        self._validated_s += wall_s
        if state.is_world_process_zero:
            event = ValidationDone(
                step=state.global_step,
                total_steps=state.max_steps,
                tokens=tokens,
                wall_s=wall_s,
                **found,
            )
            self._say(event, self._clock())

    def _mark(self, state: TrainerState) -> _Mark:
        return _Mark(self._clock(), state.global_step, int(state.num_input_tokens_seen))

    def _say(self, event: TrainingEvent, now_s: float) -> None:
        self._said_s = now_s
        try:
            print(to_line(event), flush=True)  # noqa: T201  the caller reads this line
        except BrokenPipeError:  # the caller was killed: end as if it had asked us to
            os.kill(os.getpid(), signal.SIGTERM)


def _memory_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return int(psutil.Process().memory_info().rss)
