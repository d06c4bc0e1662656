"""Records of rebuilds: which artifacts a run asked for, whether it finished, what it released.

One small JSON file a run, written anew with each change: a killed process leaves the last whole
state. The name of an artifact is recorded before the artifact is begun, so that a record also
names the staging directory of what was not finished.

A run without `finished_at` is unfinished: it failed, was killed, or runs still. It is superseded
once a later run of the same recipe has finished that was to go at least as far.

A record that is torn is left out, with a line in the log; what it still names is kept. One that
cannot be read now (a failing disk, want of a right or of descriptors) is an error: it may name what
would be removed, or the release that a model is held against.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    JsonValue,
    ValidationError,
)

from tasks.core.errors import DiskFull
from tasks.core.files.disk_space import disk_is_full
from tasks.core.files.durable import make_directory, write_atomically
from tasks.core.files.foreign import leaves
from tasks.core.files.listing import matching
from tasks.core.recipe import Keep
from tasks.core.system.clock import now_after

logger = logging.getLogger(__name__)

_ARTIFACT = re.compile(r"\b[a-z]+-[0-9a-f]{20}\b")


def _a_name(text: str) -> str:
    if leaves(text) or "/" in text:
        raise ValueError("not the name of an artifact")
    return text


_Name = Annotated[str, AfterValidator(_a_name)]
"""The name of a directory in the store. A record may come from another machine."""


class RunRecord(BaseModel):
    """One rebuild. Records of earlier versions are of finished runs and have no started_at.

    `released` is the artifact of the model that it released, None for a run that ended earlier;
    `forced` is the reason given for a release that its gate had refused. `recipe_digest` tells
    runs of equal recipes, and `overrides` are the fields that this run changed of its recipe's
    file; `reach` is the position of the last stage that was to run, so that a part of a recipe
    does not supersede the whole. `attempt_of` is what all attempts of one run have in common, None
    where none can follow; `signed_by` is what the key is known by that has signed the release
    where it was published, and `signature_sha256` what that signature is; `commits` are those that
    the run has taken, by what the recipe calls their source. `released_recipe` is the recipe of
    the release, as plain values: those of another version are no reason to leave a record out.
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
        """What is said of the release: another one says something else."""
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
        """Record that the run has released this model, and for what reason against its gate.

        recipe is what it was built by.
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
        """Record that the run has done all it was to do."""
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
                "The disk ran full while the record of a run was written.",
                where=self.path,
                found=error,
                next_step="Free some space and run again.",
            ) from error


class RunRecords:
    """The records under one home directory."""

    def __init__(self, home: Path) -> None:
        self.root = home / "runs"
        self._reported: set[Path] = set()

    def start(
        self,
        recipe: str,
        *,
        recipe_digest: str = "",
        overrides: tuple[str, ...] = (),
        reach: int = 0,
        keep: Keep = "all",
        attempt_of: str | None = None,
        commits: Mapping[str, str] | None = None,
    ) -> OpenRun:
        """Record that a rebuild of this recipe has started."""
        now = self._after_all()
        record = RunRecord(
            recipe=recipe,
            started_at=now,
            recipe_digest=recipe_digest,
            overrides=overrides,
            reach=reach,
            keep=keep,
            attempt_of=attempt_of,
            commits=dict(commits or {}),
        )
        run = OpenRun(self.root / f"{recipe}-{now:%Y%m%dT%H%M%S%f}.json", record)
        run.save()
        return run

    def _after_all(self) -> datetime:
        """Return the time now, after all that is on record."""
        return now_after(stamp for record in self.by_path().values() for stamp in record.stamps)

    def all(self) -> list[RunRecord]:
        """Return all readable records, the one that ended last first."""
        return sorted(self.by_path().values(), key=lambda record: record.ended_at, reverse=True)

    def last(self, count: int) -> list[RunRecord]:
        """Return the last `count` finished runs of each recipe, newest first.

        A run that went less far does not count out one that went further.
        """
        finished = [record for record in self.all() if record.finished_at is not None]
        return [
            record
            for number, record in enumerate(finished)
            if sum(_goes_as_far(later, record) for later in finished[:number]) < count
        ]

    def unfinished(self) -> list[RunRecord]:
        """Return the runs that did not finish and that no later run supersedes."""
        records = self.all()
        return [r for r in records if r.finished_at is None and not is_superseded(r, records)]

    def releases(self, recipe: str) -> list[str]:
        """Return what this recipe released, each artifact once, the last release first."""
        released = self._last_released_first(recipe)
        return list(dict.fromkeys(r.released for r in released if r.released is not None))

    def last_release(self, recipe: str) -> RunRecord | None:
        """Return the record of this recipe's last release, None where nothing was released."""
        return next(iter(self._last_released_first(recipe)), None)

    def signature_of(self, recipe: str, artifact: str) -> dict[str, str]:
        """Return whose signature the last release of an artifact bears, and which, if any."""
        records = (r for r in self._last_released_first(recipe) if r.released == artifact)
        last = next(records, None)
        if last is None or last.signed_by is None or last.signature_sha256 is None:
            return {}
        return {"signed_by": last.signed_by, "signature_sha256": last.signature_sha256}

    def _last_released_first(self, recipe: str) -> list[RunRecord]:
        released = [r for r in self.all() if r.recipe == recipe and r.released is not None]
        return sorted(released, key=lambda r: r.released_at or r.ended_at, reverse=True)

    def commits_of(self, attempt_of: str | None) -> dict[str, str]:
        """Return the commits that an earlier attempt of this run has taken."""
        if attempt_of is None:
            return {}
        attempts = (record for record in self._latest_first() if record.attempt_of == attempt_of)
        return next((record.commits for record in attempts), {})

    def last_commit(self, source: str) -> str | None:
        """Return the commit of a source that the last run has taken which had it, of any recipe."""
        taken = (record.commits.get(source) for record in self._latest_first())
        return next((commit for commit in taken if commit is not None), None)

    def _latest_first(self) -> list[RunRecord]:
        return sorted(self.by_path().values(), key=lambda record: record.began_at, reverse=True)

    def release_before(self, recipe: str, *artifacts: str) -> str | None:
        """Return the last artifact that this recipe released other than those given.

        The same for a run and for its repetition, whose own release is then the last one.
        """
        return next((name for name in self.releases(recipe) if name not in artifacts), None)

    def artifacts_of_last(self, count: int) -> set[str]:
        """Return the artifacts of the last `count` finished runs and releases of each recipe.

        With any count but 0 these include all that a record that cannot be read still names.
        """
        names = {name for record in self.last(count) for name in record.artifacts}
        for recipe in {record.recipe for record in self.all()}:
            names.update(self.releases(recipe)[:count])
        return names | (self.named_in_damaged() if count else set())

    def named_in_damaged(self) -> set[str]:
        """Return the artifacts that can be made out in records that cannot be read."""
        readable = self.by_path()
        damaged = (path for path in self._paths() if path not in readable)
        return {name for path in damaged for name in _ARTIFACT.findall(_text(path))}

    def forget(self, *, unfinished: bool) -> None:
        """Remove the records of superseded runs, and with `unfinished` of all that did not finish.

        A release of such a run stays on record.
        """
        records = self.by_path()
        for path, record in records.items():
            if record.finished_at is not None:
                continue
            if unfinished or is_superseded(record, records.values()):
                if record.released is None:
                    path.unlink()
                else:
                    OpenRun(path, record).save(artifacts=(record.released,))

    def _paths(self) -> list[Path]:
        return [path for path in matching(self.root, "*.json") if path.is_file()]

    def by_path(self) -> dict[Path, RunRecord]:
        """Return all readable records, each by its file."""
        return dict(self._readable())

    def _readable(self) -> Iterator[tuple[Path, RunRecord]]:
        for path in self._paths():
            try:
                yield path, RunRecord.model_validate_json(path.read_bytes())
            except FileNotFoundError:  # removed since it was listed
                continue
            except ValidationError as error:
                if path not in self._reported:
                    cause = str(error).splitlines()[0]
                    logger.warning("%s is damaged (%s): this run is ignored", path, cause)
                self._reported.add(path)


def is_superseded(record: RunRecord, records: Iterable[RunRecord]) -> bool:
    """Return whether a later run has finished that was to go at least as far."""
    return any(
        later.finished_at is not None
        and later.began_at > record.began_at
        and _goes_as_far(later, record)
        for later in records
    )


def _goes_as_far(later: RunRecord, record: RunRecord) -> bool:
    return later.recipe == record.recipe and later.reach >= record.reach


def needs_all_of(later: RunRecord, record: RunRecord) -> bool:
    """Return whether what a run needs, this later one needs too, and will supersede it."""
    return _goes_as_far(later, record) and set(record.artifacts) <= set(later.artifacts)


def _text(path: Path) -> str:
    """Return a file's text, "" once it is gone. What cannot be read now may name any artifact."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
