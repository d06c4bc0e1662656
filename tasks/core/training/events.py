"""How a training process tells its caller where it is: one line of its output an event."""

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True)
class StepDone:
    """A step was taken; `loss` is its mean loss a learned token, or a pair, in nats.

    `tokens_per_s` counts no padding, on all devices together. `memory_bytes` is the most that the
    first device has held, or on a CPU what the first process holds now.
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
        """How many steps have been taken."""
        return self.step

    def __str__(self) -> str:
        return (
            f"step {self.step}/{self.total_steps}, loss {self.loss:.4f}, "
            f"learning rate {self.learning_rate:.2e}, {self.tokens_per_s:.0f} tokens/s, "
            f"{self.memory_bytes / 1e9:.2f} GB, {_clock(self.left_s)} left"
        )


@dataclass(frozen=True)
class MicroBatchDone:
    """A micro batch of the step that is being taken is done, and others of it are to come.

    `elapsed_s` is the time since the step began. `left_s` is that of the whole training, by the
    micro batches so far: there is an estimate before the first step is done.
    """

    step: int
    total_steps: int
    micro_batch: int
    micro_batches: int
    elapsed_s: float
    left_s: float

    @property
    def steps_done(self) -> int:
        """How many steps have been taken."""
        return self.step - 1

    def __str__(self) -> str:
        # Not "step 3/20" in front: that step is not done.
        return (
            f"micro batch {self.micro_batch} of {self.micro_batches} in step "
            f"{self.step}/{self.total_steps}, {_clock(self.elapsed_s)} into the step, "
            f"{_clock(self.left_s)} left"
        )


@dataclass(frozen=True)
class ValidationBatchDone:
    """A micro batch of a validation is done, and others are to come."""

    step: int
    total_steps: int
    micro_batch: int
    micro_batches: int

    @property
    def steps_done(self) -> int:
        """How many steps have been taken."""
        return self.step

    def __str__(self) -> str:
        return (
            f"validation after step {self.step}/{self.total_steps}, "
            f"micro batch {self.micro_batch} of {self.micro_batches}"
        )


@dataclass(frozen=True)
class ValidationDone:
    """A validation is done; `loss` is the mean of its learned tokens, or of its pairs, in nats.

    Of pairs there are the mean margin (`preference_loss.PairLosses`), and the share of those whose
    chosen answer is preferred.
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
        """How many steps have been taken."""
        return self.step

    def __str__(self) -> str:
        pairs = ""
        if self.margin is not None and self.preferred is not None:
            pairs = f"margin {self.margin:.4f}, {self.preferred:.0%} of pairs as preferred, "
        return (
            f"validation loss {self.loss:.4f} after step {self.step}/{self.total_steps}, "
            f"{pairs}{self.tokens:,} tokens, {_clock(self.wall_s)}"
        )


Event = StepDone | MicroBatchDone | ValidationBatchDone | ValidationDone

_KINDS: dict[str, type[Event]] = {
    "@kawan-usaha-step ": StepDone,
    "@kawan-usaha-micro-batch ": MicroBatchDone,
    "@kawan-usaha-validation-batch ": ValidationBatchDone,
    "@kawan-usaha-validation ": ValidationDone,
}


def to_line(event: Event) -> str:
    """Serialize the event as one line."""
    prefix = next(prefix for prefix, kind in _KINDS.items() if isinstance(event, kind))
    return prefix + json.dumps(asdict(event))


def from_line(line: str) -> Event | None:
    """Return what a line says, None for any other output."""
    for prefix in _KINDS:
        if line.startswith(prefix):
            try:
                return _readers()[prefix].validate_json(line.removeprefix(prefix))
            except ValidationError:  # two processes have written into one line
                return None
    return None


@cache
def _readers() -> dict[str, TypeAdapter[Event]]:
    return {prefix: TypeAdapter(kind) for prefix, kind in _KINDS.items()}


def _clock(seconds: float) -> timedelta:
    # NaN is no more than that, either.
    return timedelta(seconds=round(seconds)) if abs(seconds) < 1e9 else timedelta.max
