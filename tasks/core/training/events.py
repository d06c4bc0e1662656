"""How a training process reports its progress to its caller: one line of output per event."""

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True)
class StepDone:
    """A step was taken; `loss` is its mean loss per learned token, or pair, in nats.

    `tokens_per_s` excludes padding and counts all devices together. `memory_bytes` is the peak of
    the first device, or on a CPU the current memory of the first process.
    """

    step: int
    total_steps: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    memory_bytes: int
    left_s: float

    @property
    def steps_done(self) -> int:
        """The number of steps taken."""
        return self.step

    def __str__(self) -> str:
        return (
            f"step {self.step}/{self.total_steps}, loss {self.loss:.4f}, "
            f"learning rate {self.learning_rate:.2e}, {self.tokens_per_s:.0f} tokens/s, "
            f"{self.memory_bytes / 1e9:.2f} GB, {_clock(self.left_s)} left"
        )


@dataclass(frozen=True)
class MicroBatchDone:
    """A micro batch of the current step is done, and others of it are still to come.

    `elapsed_s` is the time since the step started. `left_s` is that of the whole training,
    estimated from the micro batches so far, even before the first step is done.
    """

    step: int
    total_steps: int
    micro_batch: int
    micro_batches: int
    elapsed_s: float
    left_s: float

    @property
    def steps_done(self) -> int:
        """The number of steps taken."""
        return self.step - 1

    def __str__(self) -> str:
        # Not "step 3/20" at the start: that step is not done.
        return (
            f"micro batch {self.micro_batch} of {self.micro_batches} in step "
            f"{self.step}/{self.total_steps}, {_clock(self.elapsed_s)} into the step, "
            f"{_clock(self.left_s)} left"
        )


@dataclass(frozen=True)
class ValidationBatchDone:
    """A micro batch of a validation is done, and others are still to come."""

    step: int
    total_steps: int
    micro_batch: int
    micro_batches: int

    @property
    def steps_done(self) -> int:
        """The number of steps taken."""
        return self.step

    def __str__(self) -> str:
        return (
            f"validation after step {self.step}/{self.total_steps}, "
            f"micro batch {self.micro_batch} of {self.micro_batches}"
        )


@dataclass(frozen=True)
class ValidationDone:
    """A validation is done; `loss` is the mean per learned token, or pair, in nats.

    For pairs: the mean margin (`preference_loss.PairLosses`), and the share of pairs whose chosen
    answer is preferred.
    """

    step: int
    total_steps: int
    loss: float
    tokens: int
    wall_s: float
    margin: float | None = None
    preferred: float | None = None

    @property
    def steps_done(self) -> int:
        """The number of steps taken."""
        return self.step

    def __str__(self) -> str:
        pairs = ""
        if self.margin is not None and self.preferred is not None:
            pairs = f"margin {self.margin:.4f}, {self.preferred:.0%} of pairs as preferred, "
        return (
            f"validation loss {self.loss:.4f} after step {self.step}/{self.total_steps}, "
            f"{pairs}{self.tokens:,} tokens, {_clock(self.wall_s)}"
        )


TrainingEvent = StepDone | MicroBatchDone | ValidationBatchDone | ValidationDone

_KINDS: dict[str, type[TrainingEvent]] = {
    "@kawan-usaha-step ": StepDone,
    "@kawan-usaha-micro-batch ": MicroBatchDone,
    "@kawan-usaha-validation-batch ": ValidationBatchDone,
    "@kawan-usaha-validation ": ValidationDone,
}


def to_line(event: TrainingEvent) -> str:
    """Serialize the event as one line."""
    prefix = next(prefix for prefix, kind in _KINDS.items() if isinstance(event, kind))
    return prefix + json.dumps(asdict(event))


def from_line(line: str) -> TrainingEvent | None:
    """Return the event of a line; None for any other output."""
    for prefix in _KINDS:
        if line.startswith(prefix):
            try:
                return _readers()[prefix].validate_json(line.removeprefix(prefix))
            except ValidationError:  # two processes wrote into one line
                return None
    return None


@cache
def _readers() -> dict[str, TypeAdapter[TrainingEvent]]:
    return {prefix: TypeAdapter(kind) for prefix, kind in _KINDS.items()}


def _clock(seconds: float) -> timedelta:
    # NaN compares false as well.
    return timedelta(seconds=round(seconds)) if abs(seconds) < 1e9 else timedelta.max
