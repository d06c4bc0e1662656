"""All records of rebuilds under one home directory: what was released, what must be kept.

A record that is torn is logged and left out; the artifacts that can be made out in it are kept. One
that cannot be read now (a failing disk, a missing permission, no free descriptors) is an error: it
may name what would otherwise be removed, or the release that a model is compared with.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from tasks.core.files.listing import matching
from tasks.core.recipe import Keep
from tasks.core.store.run_record import OpenRun, RunRecord, goes_as_far, is_superseded
from tasks.core.system.clock import now_after

logger = logging.getLogger(__name__)

_ARTIFACT = re.compile(r"\b[a-z]+-[0-9a-f]{20}\b")


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
        """Return the time now, or a later one if a record has it."""
        return now_after(stamp for record in self.by_path().values() for stamp in record.stamps)

    def all(self) -> list[RunRecord]:
        """Return all readable records, the one that ended last first."""
        return sorted(self.by_path().values(), key=lambda record: record.ended_at, reverse=True)

    def last(self, count: int) -> list[RunRecord]:
        """Return the last `count` finished runs of each recipe, newest first.

        A run that went less far does not displace one that went further.
        """
        finished = [record for record in self.all() if record.finished_at is not None]
        return [
            record
            for number, record in enumerate(finished)
            if sum(goes_as_far(later, record) for later in finished[:number]) < count
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
        """Return the record of this recipe's last release, None without one."""
        return next(iter(self._last_released_first(recipe)), None)

    def signature_of(self, recipe: str, artifact: str) -> dict[str, str]:
        """Return key and digest of the signature of an artifact's last release, if it has one."""
        records = (r for r in self._last_released_first(recipe) if r.released == artifact)
        last = next(records, None)
        if last is None or last.signed_by is None or last.signature_sha256 is None:
            return {}
        return {"signed_by": last.signed_by, "signature_sha256": last.signature_sha256}

    def _last_released_first(self, recipe: str) -> list[RunRecord]:
        released = [r for r in self.all() if r.recipe == recipe and r.released is not None]
        return sorted(released, key=lambda r: r.released_at or r.ended_at, reverse=True)

    def commits_of(self, attempt_of: str | None) -> dict[str, str]:
        """Return the commits that an earlier attempt of this run used."""
        if attempt_of is None:
            return {}
        attempts = (record for record in self._latest_first() if record.attempt_of == attempt_of)
        return next((record.commits for record in attempts), {})

    def last_commit(self, source: str) -> str | None:
        """Return the commit of a source in the last run of any recipe that used it."""
        taken = (record.commits.get(source) for record in self._latest_first())
        return next((commit for commit in taken if commit is not None), None)

    def _latest_first(self) -> list[RunRecord]:
        return sorted(self.by_path().values(), key=lambda record: record.began_at, reverse=True)

    def release_before(self, recipe: str, *artifacts: str) -> str | None:
        """Return the last artifact that this recipe released, leaving out those given.

        So a run and its repetition, after whose own release it asks, get the same answer.
        """
        return next((name for name in self.releases(recipe) if name not in artifacts), None)

    def artifacts_of_last(self, count: int) -> set[str]:
        """Return the artifacts of the last `count` finished runs and releases of each recipe.

        With any count but 0 these include everything that a damaged record still names.
        """
        names = {name for record in self.last(count) for name in record.artifacts}
        for recipe in {record.recipe for record in self.all()}:
            names.update(self.releases(recipe)[:count])
        return names | (self.named_in_damaged() if count else set())

    def named_in_damaged(self) -> set[str]:
        """Return the artifacts that can be made out in damaged records."""
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
                    logger.warning("%s is damaged (%s) and ignored", path, cause)
                self._reported.add(path)


def _text(path: Path) -> str:
    """Return a file's text, "" once it is gone. One that cannot be read is an error."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
