"""Records which rung of the ladder worked, for one model with its settings on one machine.

One small file each under the home directory, so that two trainings never write the same one. The
invariant: a file names the rung of a training that took all of its steps. That the rung above ran
out of memory is believed for a week only: another process may have held that memory unseen.
"""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from tasks.core.files.digests import sha256_of
from tasks.core.files.durable import write_atomically
from tasks.core.keys import digest
from tasks.core.machine.hardware import read_hardware
from tasks.core.recipe import Finetune

_log = logging.getLogger(__name__)

_DIRECTORY = "rungs"
BELIEVED_S = 7 * 24 * 3600.0
"""How long the rung above is not tried again: a try may cost the model's loading."""
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
class Remembered:
    """A rung that worked, and whether it is time to try the one above again."""

    rung: str
    is_doubted: bool


@dataclass(frozen=True)
class RungRecords:
    """The record of one model with its settings on this machine."""

    file: Path
    subject: dict[str, JsonValue]

    @classmethod
    def of(cls, home: Path, model: Path, settings: Finetune) -> "RungRecords":
        """Return the record of this model directory on this machine; its file may not exist yet."""
        hardware = read_hardware(home)
        subject: dict[str, JsonValue] = {
            "model": sha256_of(model / "config.json"),
            "settings": settings.model_dump(mode="json", exclude=_WITHOUT_MEMORY),
            "memory_bytes": hardware.memory_bytes,
            "gpus": [[gpu.name, gpu.memory_bytes] for gpu in hardware.gpus],
        }
        return cls(home / _DIRECTORY / f"{digest(subject)[:20]}.json", subject)

    def recall(self) -> Remembered | None:
        """Return the rung that worked; None if none is known."""
        try:
            kept = json.loads(self.file.read_bytes())
            name, short_s = kept["rung"], kept.get("above_was_short_at_s")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if not isinstance(name, str):
            return None
        # A clock that was set back must not make a record last forever.
        believed = isinstance(short_s, int | float) and 0 <= time.time() - short_s < BELIEVED_S
        return Remembered(name, is_doubted=not believed)

    def keep(self, rung: str, *, above_was_short: bool) -> None:
        """Record that this rung worked; a record that cannot be written is only logged.

        above_was_short: this training has seen the rung above run out of memory. If not, the next
        training tries that rung.
        """
        short_s = time.time() if above_was_short else None
        record = {"rung": rung, "above_was_short_at_s": short_s, **self.subject}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps(record, indent=1))
        except OSError as error:
            _log.warning("The rung that worked is not recorded: %s", error)

    def forget(self) -> None:
        """Remove the record: the settings work as asked for."""
        try:
            self.file.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("The record of an earlier rung is not removed: %s", error)
