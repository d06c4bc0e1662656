"""What a training leaves for others to read: the names of its files, and the rungs it went down.

Plain data without torch: reports and cards are made where nothing is trained.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from tasks.core.errors import CorruptArtifact
from tasks.core.process.answer_file import read_answer
from tasks.core.training.job import Reason

ADAPTER = "adapter"
TRAINING = "training.json"
WORK = "work"  # what an attempt goes on from


class StepDown(BaseModel):
    """A rung that memory did not suffice for, and the last step that was kept on it.

    `alone` is False when something else was seen in that memory, so that the rung might suffice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rung: str
    reason: Reason
    kept_step: int | None
    alone: bool = True


class SeenStep(BaseModel):
    """A step whose loss was logged or validated; None where it was no finite number."""

    step: int
    loss: float | None


class Summary(BaseModel):
    """What training.json says, as far as others read it: another version may say more or less.

    settings are not those of a recipe of today, whose fields may be others by now.
    """

    settings: dict[str, JsonValue] = {}
    steps: tuple[SeenStep, ...] = ()
    validation: tuple[SeenStep, ...] = ()

    @property
    def lora(self) -> dict[str, JsonValue]:
        """The settings of the adapter."""
        lora = self.settings.get("lora")
        return lora if isinstance(lora, dict) else {}

    @property
    def device(self) -> str:
        """What it trained on."""
        return str(self.settings.get("device", "an unknown device"))


def read_summary(path: Path) -> Summary:
    """Return what a training has left. Raises CorruptArtifact for what is no such file."""
    return read_answer(path, Summary, error=CorruptArtifact)
