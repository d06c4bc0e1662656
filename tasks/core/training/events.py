"""How a training process tells its caller where it is: one line of its output a logged step."""

import json
from dataclasses import asdict, dataclass
from datetime import timedelta

_PREFIX = "@kawan-usaha-step "


@dataclass(frozen=True)
class StepDone:
    """A step was taken; `loss` is its mean loss a learned token, in nats.

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

    def __str__(self) -> str:
        return (
            f"step {self.step}/{self.total_steps}, loss {self.loss:.4f}, "
            f"learning rate {self.learning_rate:.2e}, {self.tokens_per_s:.0f} tokens/s, "
            f"{self.memory_bytes / 1e9:.2f} GB, {timedelta(seconds=round(self.left_s))} left"
        )


def to_line(event: StepDone) -> str:
    """Return the line that says it."""
    return _PREFIX + json.dumps(asdict(event))


def from_line(line: str) -> StepDone | None:
    """Return what a line says, None for any other output."""
    if not line.startswith(_PREFIX):
        return None
    return StepDone(**json.loads(line.removeprefix(_PREFIX)))
