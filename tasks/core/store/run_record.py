"""The record of one rebuild: which artifacts it asked for, whether it finished, what it released.

One small JSON file per run, rewritten with each change: a killed process leaves the last complete
state. An artifact's name is recorded before the artifact is begun, so that a record also names the
staging directory of what was not finished.

A run without `finished_at` is unfinished: it failed, was killed, or is still running. It is
superseded once a later run of the same recipe has finished that was to go at least as far.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, JsonValue

from tasks.core.errors import DiskFull
from tasks.core.files.disk_space import disk_is_full
from tasks.core.files.durable import make_directory, write_atomically
from tasks.core.files.foreign import leaves
from tasks.core.recipe import Keep
from tasks.core.system.clock import now_after


def _a_name(text: str) -> str:
    if leaves(text) or "/" in text:
        raise ValueError("not the name of an artifact")
    return text


_Name = Annotated[str, AfterValidator(_a_name)]
"""The name of a directory in the store. A record may come from another machine."""


class RunRecord(BaseModel):
    """One rebuild. Records of earlier versions are of finished runs and have no started_at.

    `released` is the artifact of the model that it released, None if it ended before that; `forced`
    is the reason given for a release that the gate had refused. Runs of equal recipes have the same
    `recipe_digest`; `overrides` are the fields of the recipe's file that this run changed; `reach`
    is the position of the last stage that was to run, so that part of a recipe does not supersede
    the whole. `attempt_of` identifies all attempts of one run, None where no other can follow;
    `signed_by` is the fingerprint of the key that signed the release where it was published, and
    `signature_sha256` the digest of that signature; `commits` are those that the run used, by the
    recipe's name for their source. `released_recipe` is the recipe of the release as plain values,
    so that a record stays readable when another version wrote it.
    """

    model_config = ConfigDict(frozen=True)

    recipe: str
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    artifacts: tuple[_Name, ...] = ()
    released: _Name | None = None
    released_at: AwareDatetime | None = None
    forced: str | None = None
    signed_by: str | None = None
    signature_sha256: str | None = None
    recipe_digest: str = ""
    overrides: tuple[str, ...] = ()
    reach: int = 0
    keep: Keep = "all"
    attempt_of: str | None = None
    commits: dict[str, str] = {}
    released_recipe: dict[str, JsonValue] | None = None

    @property
    def stamps(self) -> tuple[datetime | None, ...]:
        """All times of this record."""
        return self.started_at, self.released_at, self.finished_at

    @property
    def began_at(self) -> datetime:
        """When the run started; for a record of an earlier version, when it finished."""
        return self.started_at or self.finished_at or datetime.fromtimestamp(0, UTC)

    @property
    def ended_at(self) -> datetime:
        """When the run finished; for an unfinished one, when it started."""
        return self.finished_at or self.began_at

    @property
    def release(self) -> tuple[str | None, ...]:
        """What identifies the release, and tells it from another one."""
        return self.released, self.forced, self.signed_by, self.signature_sha256

    def __str__(self) -> str:
        return f"rebuild of {self.recipe}, {self.began_at:%Y-%m-%d %H:%M}"


@dataclass
class OpenRun:
    """The record of a run in progress. Each change is on the disk when the call returns."""

    path: Path
    record: RunRecord

    def add(self, artifact: str) -> None:
        """Record that the run needs this artifact, made or about to be made."""
        if artifact not in self.record.artifacts:
            self.save(artifacts=(*self.record.artifacts, artifact))

    def release(
        self,
        artifact: str,
        forced: str | None = None,
        *,
        signed_by: str | None = None,
        signature_sha256: str | None = None,
        recipe: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Record that the run has released this model, and why if the gate had refused it.

        recipe is the one that it was built by.
        """
        self.save(
            released=artifact,
            released_recipe=None if recipe is None else dict(recipe),
            released_at=now_after(self.record.stamps),
            forced=forced,
            signed_by=signed_by,
            signature_sha256=signature_sha256,
        )

    def finish(self) -> None:
        """Record that the run has done everything that it was to do."""
        self.save(finished_at=now_after(self.record.stamps))

    def save(self, **changes: object) -> None:
        """Write the record with these fields changed."""
        self.record = self.record.model_copy(update=changes)
        try:
            make_directory(self.path.parent)
            write_atomically(self.path, self.record.model_dump_json(indent=1) + "\n")
        except OSError as error:
            if not disk_is_full(error):
                raise
            raise DiskFull(
                "The disk filled up while the record of a run was written.",
                where=self.path,
                found=error,
                next_step="Free some space and run again.",
            ) from error


def goes_as_far(later: RunRecord, record: RunRecord) -> bool:
    """Return whether a later run of the same recipe was to go at least as far."""
    return later.recipe == record.recipe and later.reach >= record.reach


def is_superseded(record: RunRecord, records: Iterable[RunRecord]) -> bool:
    """Return whether a later run has finished that was to go at least as far."""
    return any(
        later.finished_at is not None
        and later.began_at > record.began_at
        and goes_as_far(later, record)
        for later in records
    )


def needs_all_of(later: RunRecord, record: RunRecord) -> bool:
    """Return whether a later run needs everything that this one needs, and will supersede it."""
    return goes_as_far(later, record) and set(record.artifacts) <= set(later.artifacts)
