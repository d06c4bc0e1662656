"""The files of a finished training that others read: their names, its summary, its steps down.

Plain data without torch: reports and cards are made where nothing is trained.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, JsonValue

from tasks.core.errors import CorruptArtifact
from tasks.core.process.answer_file import read_answer
from tasks.core.recipe import Finetune
from tasks.core.training.failures import StopReason
from tasks.core.training.job import OPERATING, TrainingOutcome

if TYPE_CHECKING:
    from tasks.core.conversation.examples.writer import ExampleCounts

ADAPTER = "adapter"
TRAINING = "training.json"
WORK_DIRECTORY = "work"
"""What an attempt resumes from; removed once the adapter is verified."""


class StepDown(BaseModel):
    """A rung that ran out of memory, and the last step that a checkpoint kept on it.

    alone: nothing else was seen in that memory; if False, the rung might fit another time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rung: str
    reason: StopReason
    kept_step: int | None
    alone: bool = True


class SeenStep(BaseModel):
    """A step whose loss was logged or validated; None if it was not finite."""

    step: int
    loss: float | None


class Summary(BaseModel):
    """The part of training.json that others read; another version may write more or less.

    settings are plain values: an older recipe may have had other fields.
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
        """The device that it was trained on."""
        return str(self.settings.get("device", "an unknown device"))


def summary_text(outcome: TrainingOutcome, counts: "ExampleCounts", settings: Finetune) -> str:
    """Return training.json: the same for an undisturbed and a resumed training."""
    return json.dumps(
        {
            "steps": [step.model_dump() for step in outcome.steps],
            "validation": [each.model_dump(exclude_defaults=True) for each in outcome.validation],
            "validation_tokens": outcome.validation_tokens,
            "trained_tokens": outcome.tokens,
            "data": asdict(counts),
            "settings": settings.model_dump(mode="json", exclude={"data", *OPERATING}),
        },
        indent=1,
    )


def read_summary(path: Path) -> Summary:
    """Return the summary of a training. Raises CorruptArtifact for any other file."""
    return read_answer(path, Summary, error=CorruptArtifact)
