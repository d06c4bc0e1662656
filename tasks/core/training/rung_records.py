"""Which rung of the ladder worked, for one model with its settings on one machine.

One small file each under the home directory, so that two trainings never write the same one. The
invariant: a file names the rung of a training that took all of its steps.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from tasks.core.files import sha256_of, write_atomically
from tasks.core.keys import digest
from tasks.core.planning.hardware import read_hardware
from tasks.core.recipe import Finetune

_log = logging.getLogger(__name__)

_DIRECTORY = "rungs"
_WITHOUT_MEMORY = {
    "data",
    "epochs",
    "max_steps",
    "learning_rate",
    "lr_scheduler",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "validation_share",
    "save_steps",
    "save_interval_s",
    "save_total_limit",
    "logging_steps",
    "report_to",
    "seed",
}
"""Settings that do not decide how much memory a training needs."""


@dataclass(frozen=True)
class RungRecords:
    """The record of one model, its settings and this machine."""

    file: Path
    subject: dict[str, JsonValue]

    @classmethod
    def of(cls, home: Path, model: Path, settings: Finetune) -> "RungRecords":
        """Return the record of this model directory on this machine, written yet or not."""
        hardware = read_hardware(home)
        subject: dict[str, JsonValue] = {
            "model": sha256_of(model / "config.json"),
            "settings": settings.model_dump(mode="json", exclude=_WITHOUT_MEMORY),
            "memory_bytes": hardware.memory_bytes,
            "gpus": [[gpu.name, gpu.memory_bytes] for gpu in hardware.gpus],
        }
        return cls(home / _DIRECTORY / f"{digest(subject)[:20]}.json", subject)

    def recall(self) -> str | None:
        """Return the name of the rung that worked, None when none is known."""
        try:
            name = json.loads(self.file.read_bytes())["rung"]
        except (OSError, ValueError, KeyError):
            return None
        return name if isinstance(name, str) else None

    def keep(self, rung: str) -> None:
        """Remember that this rung worked, if the disk takes it: the adapter is worth more."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps({"rung": rung, **self.subject}, indent=1))
        except OSError as error:
            _log.warning("The rung that worked is not remembered: %s", error)
