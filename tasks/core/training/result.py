"""What a training leaves for others to read: the names of its files, and the rungs it went down.

Plain data without torch: reports and cards are made where nothing is trained.
"""

from pydantic import BaseModel, ConfigDict

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
