"""Records of successful rebuilds: which artifacts a run used, so that `prune` keeps them."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.core.files import write_atomically


class RunRecord(BaseModel):
    """One successful rebuild.

    `released` is the artifact of the model that it released, None for a run that ended earlier;
    `forced` is the reason given for a release that its gate had refused.
    """

    model_config = ConfigDict(frozen=True)

    recipe: str
    finished_at: datetime
    artifacts: tuple[str, ...]
    released: str | None = None
    forced: str | None = None


class RunRecords:
    """The records under one home directory, one small file a run."""

    def __init__(self, home: Path) -> None:
        self.root = home / "runs"

    def add(
        self,
        recipe: str,
        artifacts: tuple[str, ...],
        *,
        released: str | None = None,
        forced: str | None = None,
    ) -> RunRecord:
        """Record that a rebuild of this recipe succeeded with these artifacts."""
        record = RunRecord(
            recipe=recipe,
            finished_at=datetime.now(UTC),
            artifacts=artifacts,
            released=released,
            forced=forced,
        )
        self.root.mkdir(parents=True, exist_ok=True)
        name = f"{recipe}-{record.finished_at:%Y%m%dT%H%M%S%f}.json"
        write_atomically(self.root / name, record.model_dump_json(indent=1) + "\n")
        return record

    def last(self, count: int) -> list[RunRecord]:
        """Return the last `count` records of each recipe, newest first."""
        by_recipe: dict[str, list[RunRecord]] = {}
        for record in self._all():
            by_recipe.setdefault(record.recipe, []).append(record)
        return [record for runs in by_recipe.values() for record in runs[:count]]

    def release_before(self, recipe: str, artifact: str) -> str | None:
        """Return the last artifact that this recipe released other than the one given.

        The same for a run and for its repetition, whose own release is then the last one.
        """
        releases = (record.released for record in self._all() if record.recipe == recipe)
        return next((name for name in releases if name not in (None, artifact)), None)

    def artifacts_of_last(self, count: int) -> set[str]:
        """Return the names of the artifacts that the last `count` rebuilds of each recipe used."""
        return {name for record in self.last(count) for name in record.artifacts}

    def _all(self) -> list[RunRecord]:
        """Return all records, newest first."""
        records = [
            RunRecord.model_validate_json(path.read_bytes()) for path in self.root.glob("*.json")
        ]
        return sorted(records, key=lambda record: record.finished_at, reverse=True)
