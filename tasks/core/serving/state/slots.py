"""The two slots of a deployment: one engine serves, and a new one is started in the other.

    <home>/serving/<name>/<slot>/model             a link to the model directory, a neutral name
    <home>/serving/<name>/<slot>/expectation.json  what the engine must prove
    <home>/serving/<name>/<slot>/refusal.json      why it refused to serve, if it did
    <home>/serving/<name>/<slot>/modules/          the model's own code, apart from every other's
    <home>/serving/<name>/<slot>/record.json       what was started there, once it was proven

The invariant: a record describes a deployment that has answered with a token from this slot. The
link keeps the model from being pruned; a slot that no longer serves keeps its record, for a
rollback.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tasks.core.files.durable import make_directory
from tasks.core.serving.proof.readiness import REFUSAL_FILE

Slot = Literal["blue", "green"]
SLOTS: tuple[Slot, ...] = get_args(Slot)


def other(slot: Slot) -> Slot:
    """Return the other slot."""
    return "green" if slot == "blue" else "blue"


@dataclass(frozen=True)
class SlotDirectory:
    """The directory of one slot."""

    root: Path

    @property
    def model(self) -> Path:
        """The link to the model directory.

        FastChat picks an adapter by words in the path, and one with `vicuna` or `peft` would drop
        the edit. None of its adapters matches `model`.
        """
        return self.root / "model"

    @property
    def modules(self) -> Path:
        """Where transformers caches the code of this model."""
        return self.root / "modules"

    @property
    def expectation(self) -> Path:
        """What the engine must prove."""
        return self.root / "expectation.json"

    @property
    def refusal(self) -> Path:
        """Why the engine refused to serve, if it did."""
        return self.root / REFUSAL_FILE

    @property
    def record(self) -> Path:
        """What was proven here."""
        return self.root / "record.json"

    def prepare(self, model: Path, *, again: bool = False) -> None:
        """Set up the slot for this model.

        again: for the deployment on record here. Its record stays, so that a start that fails or is
        killed can be repeated.
        """
        if again:
            self.expectation.unlink(missing_ok=True)
            self.refusal.unlink(missing_ok=True)
            self.retire()
        else:
            shutil.rmtree(self.root, ignore_errors=True)
        make_directory(self.root)
        self.model.symlink_to(model)

    def retire(self) -> None:
        """Release the model. The record stays."""
        self.model.unlink(missing_ok=True)
        shutil.rmtree(self.modules, ignore_errors=True)
