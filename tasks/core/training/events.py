"""How a training process tells its caller where it is: one line of its output a step."""

import json
from dataclasses import asdict, dataclass

_PREFIX = "@kawan-usaha-step "


@dataclass(frozen=True)
class StepDone:
    """A step was taken; `loss` is its mean loss a learned token, in nats."""

    step: int
    total_steps: int
    loss: float
    learning_rate: float

    def __str__(self) -> str:
        return (
            f"step {self.step}/{self.total_steps}, loss {self.loss:.4f}, "
            f"learning rate {self.learning_rate:.2e}"
        )


def to_line(event: StepDone) -> str:
    """Return the line that says it."""
    return _PREFIX + json.dumps(asdict(event))


def from_line(line: str) -> StepDone | None:
    """Return what a line says, None for any other output."""
    if not line.startswith(_PREFIX):
        return None
    return StepDone(**json.loads(line.removeprefix(_PREFIX)))
