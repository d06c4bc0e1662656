"""What a stage hands to the next one and to the report, and how Prefect shows it."""

from collections.abc import Mapping
from pathlib import Path

from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict, JsonValue

from tasks.core.progress import duration, quantity
from tasks.core.store import Built
from tasks.core.system.measure import Cost


class StageResult(BaseModel):
    """The result of a stage, with what the next stage and the report need."""

    model_config = ConfigDict(frozen=True)

    stage: str
    source: str | None = None
    """The short name of where a download comes from."""
    artifact: str
    digest: str
    path: Path
    cached: bool
    freed: bool = False
    wall_s: float
    size_bytes: int
    peak_memory_bytes: int
    facts: dict[str, JsonValue] = {}

    @classmethod
    def after(
        cls, model: "StageResult", stage: str, cost: Cost, *, cached: bool, **facts: JsonValue
    ) -> "StageResult":
        """Return the result of a stage that used a model and made no artifact."""
        return model.model_copy(
            update={
                "stage": stage,
                "cached": cached,
                "wall_s": cost.wall_s,
                "peak_memory_bytes": cost.peak_memory_bytes,
                "facts": facts,
            }
        )

    @classmethod
    def of(cls, built: Built, stage: str) -> "StageResult":
        """Return the result for an artifact. The cost is that of building it originally."""
        artifact = built.artifact
        return cls(
            stage=stage,
            artifact=str(artifact.key),
            digest=artifact.digest,
            path=artifact.path,
            cached=built.cached,
            freed=artifact.freed,
            wall_s=artifact.manifest.wall_s,
            size_bytes=artifact.manifest.size_bytes,
            peak_memory_bytes=artifact.manifest.peak_memory_bytes,
            facts=artifact.manifest.facts,
        )


def result_digests(results: Mapping[str, StageResult]) -> dict[str, str]:
    """Return the digest of each result."""
    return {name: each.digest for name, each in results.items()}


def paths_of(results: Mapping[str, StageResult]) -> dict[str, Path]:
    """Return the path of each result."""
    return {name: each.path for name, each in results.items()}


def completed(result: StageResult) -> State[StageResult]:
    """Return the state that shows in the UI what was done, or that the result was cached."""
    name = "Cached" if result.cached else None
    message = f"{result.artifact}: {outcome_line(result)}"
    return Completed(name=name, message=message, data=result)


def outcome_line(made: object) -> str:
    """Return the last line of a stage: its outcome and its cost."""
    if isinstance(made, State):
        return f"{str(made.name).lower()}: {str(made.message).splitlines()[0]}"
    if not isinstance(made, StageResult):
        return "done"
    size, took = quantity(made.size_bytes), duration(made.wall_s)
    if made.cached:
        where = ", not on this machine now" if made.freed else ""
        return f"cached, {size}, took {took} when it was made{where}"
    memory = f", {quantity(made.peak_memory_bytes)} of memory" if made.peak_memory_bytes else ""
    return f"done, {size} in {took}{memory}"
