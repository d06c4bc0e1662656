"""Records of successful rebuilds: which artifacts a run used, so that `prune` keeps them."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.core.files import write_atomically


class RunRecord(BaseModel):
    """One successful rebuild."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    finished_at: datetime
    artifacts: tuple[str, ...]


class RunRecords:
    """The records under one home directory, one small file a run."""

    def __init__(self, home: Path) -> None:
        self.root = home / "runs"

    def add(self, recipe: str, artifacts: tuple[str, ...]) -> RunRecord:
        """Record that a rebuild of this recipe succeeded with these artifacts."""
        record = RunRecord(recipe=recipe, finished_at=datetime.now(UTC), artifacts=artifacts)
        self.root.mkdir(parents=True, exist_ok=True)
        name = f"{recipe}-{record.finished_at:%Y%m%dT%H%M%S%f}.json"
        write_atomically(self.root / name, record.model_dump_json(indent=1) + "\n")
        return record

    def last(self, count: int) -> list[RunRecord]:
        """Return the last `count` records of each recipe, newest first."""
        records = [
            RunRecord.model_validate_json(path.read_bytes()) for path in self.root.glob("*.json")
        ]
        by_recipe: dict[str, list[RunRecord]] = {}
        for record in sorted(records, key=lambda record: record.finished_at, reverse=True):
            by_recipe.setdefault(record.recipe, []).append(record)
        return [record for runs in by_recipe.values() for record in runs[:count]]

    def artifacts_of_last(self, count: int) -> set[str]:
        """Return the names of the artifacts that the last `count` rebuilds of each recipe used."""
        return {name for record in self.last(count) for name in record.artifacts}
