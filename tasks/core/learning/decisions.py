"""The decisions of `learn`: which reviewed sets were trained on, and with which outcome.

    <home>/learned/<recipe>/<time>.json   one decision

A decision is written when the model is released or refused, and never changed. A run that is killed
before leaves none, and the next one resumes it. The invariant: there is one decision for each
reviewed set and set of overrides.
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


class LearningDecision(BaseModel):
    """One decision: the reviewed set by the digest of its content, and the answers new in it.

    `work` is the digest of the set and the overrides of the recipe it was trained with.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    work: str
    reviewed_set: str
    answers: tuple[str, ...]
    decided_at: AwareDatetime
    ending: Ending
    model: str
    reasons: tuple[str, ...]


def learning_key(reviewed_set: str, overrides: Sequence[str]) -> str:
    """Return the digest of a reviewed set, given by its own digest, and the overrides of a run."""
    return digest({"reviewed_set": reviewed_set, "overrides": list(overrides)})


class LearningDecisions:
    """The decisions about one recipe."""

    def __init__(self, home: Path, recipe: str) -> None:
        self._root = home / "learned" / recipe

    @property
    def lock(self) -> Path:
        """The lock of a run of `learn`: a second run waits, and finds the decision of the first."""
        return self._root / ".lock"

    def all(self) -> list[LearningDecision]:
        """Return all readable decisions, the oldest first. Raises OSError."""
        return sorted(self._readable(), key=lambda each: each.decided_at)

    def decided(self, work: str) -> LearningDecision | None:
        """Return the decision about this work, None if there is none."""
        return next((each for each in self.all() if each.work == work), None)

    def new_among(self, answers: Sequence[str]) -> tuple[str, ...]:
        """Return the answers that no decision has covered yet."""
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
    ) -> LearningDecision:
        """Record a decision; it is on disk when the call returns.

        Answers that an earlier decision covers are not listed again. Raises OSError.
        """
        now = now_after(each.decided_at for each in self.all())
        made = LearningDecision(
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

    def _readable(self) -> Iterator[LearningDecision]:
        for path in matching(self._root, "*.json"):
            with path.open("rb") as file:
                raw = file.read(_MAX_BYTES)
            try:
                yield LearningDecision.model_validate_json(raw)
            except ValidationError as error:
                cause = error.errors(include_input=False, include_url=False)[0]["msg"]
                _LOG.warning("%s is damaged (%s): this decision is ignored", path, cause)
