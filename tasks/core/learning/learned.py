"""Which reviewed sets a recipe has learned from, and what came of it.

    <home>/learned/<recipe>/<time>.json   one decision

A decision is written once the model is released or refused, and never changed: a run that was
killed before leaves none, and the next one goes on where it stopped. The invariant: the same
reviewed set, under the same changes of the recipe, is decided about once.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from tasks.core.files.durable import make_directory, write_atomically
from tasks.core.files.listing import matching
from tasks.core.keys import digest
from tasks.core.system.clock import now_after

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 64 << 20

Ending = Literal["released", "refused"]


class Learned(BaseModel):
    """One decision: over which reviewed set, known by its content, and which answers were new.

    `work` is the digest of the set and of the changes of the recipe under which it was learned.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    work: str
    reviewed_set: str
    answers: tuple[str, ...]
    decided_at: AwareDatetime
    ending: Ending
    model: str
    reasons: tuple[str, ...]


def work_of(reviewed_set: str, overrides: Sequence[str]) -> str:
    """Return what a set, by the digest of its content, and the changes of a run come to."""
    return digest({"reviewed_set": reviewed_set, "overrides": list(overrides)})


class LearnedSets:
    """The decisions of one recipe under a home."""

    def __init__(self, home: Path, recipe: str) -> None:
        self._root = home / "learned" / recipe

    @property
    def lock(self) -> Path:
        """The lock of whoever learns: a second one waits, and finds what the first decided."""
        return self._root / ".lock"

    def all(self) -> list[Learned]:
        """Return all readable decisions, the first one first. Raises OSError."""
        return sorted(self._readable(), key=lambda each: each.decided_at)

    def decided(self, work: str) -> Learned | None:
        """Return what was decided about this work, None where nothing was."""
        return next((each for each in self.all() if each.work == work), None)

    def new_among(self, answers: Sequence[str]) -> tuple[str, ...]:
        """Return the answers that no decision has seen: what may be worth a training."""
        seen = {answer for each in self.all() for answer in each.answers}
        return tuple(answer for answer in answers if answer not in seen)

    def add(
        self,
        work: str,
        reviewed_set: str,
        answers: Sequence[str],
        *,
        ending: Ending,
        model: str,
        reasons: Sequence[str],
    ) -> Learned:
        """Record a decision over these answers; it is on the disk when the call returns.

        Those that an earlier decision has seen are not named again. Raises OSError.
        """
        now = now_after(each.decided_at for each in self.all())
        made = Learned(
            work=work,
            reviewed_set=reviewed_set,
            answers=self.new_among(answers),
            decided_at=now,
            ending=ending,
            model=model,
            reasons=tuple(reasons),
        )
        make_directory(self._root)
        path = self._root / f"{now:%Y%m%dT%H%M%S%f}.json"
        write_atomically(path, made.model_dump_json(indent=1) + "\n")
        return made

    def _readable(self) -> Iterator[Learned]:
        for path in matching(self._root, "*.json"):
            with path.open("rb") as file:
                raw = file.read(_MAX_BYTES)
            try:
                yield Learned.model_validate_json(raw)
            except ValidationError as error:
                cause = error.errors(include_input=False, include_url=False)[0]["msg"]
                _LOG.warning("%s is damaged (%s): this decision is ignored", path, cause)
