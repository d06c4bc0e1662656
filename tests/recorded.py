"""What Prefect's server has recorded of a flow run.

The states of tasks reach it as events and the pages from the outbox, so that both may come after
the end of the flow. What is asked for is awaited; if it never comes, what is there is returned, for
the test to say what is missing.
"""

import time
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact, State, TaskRun

T = TypeVar("T")

_HANG_S = 120.0


def task_runs_of(state: State[object], *expected: str) -> dict[str, TaskRun]:
    """Return the tasks by name, once all have ended and each expected word begins a name."""
    ours = FlowRunFilter(id=FlowRunFilterId(any_=[_run_id(state)]))

    def look() -> dict[str, TaskRun]:
        with get_client(sync_client=True) as client:
            return {each.name: each for each in client.read_task_runs(flow_run_filter=ours)}

    def has_all(found: dict[str, TaskRun]) -> bool:
        begun = all(any(name.startswith(word) for name in found) for word in expected)
        return begun and all(each.end_time for each in found.values())

    return _awaited(look, has_all)


def artifacts_of(
    state: State[object], are_there: Callable[[list[Artifact]], bool]
) -> list[Artifact]:
    """Return the artifacts, once they are those that the test is about."""

    def look() -> list[Artifact]:
        with get_client(sync_client=True) as client:
            return list(client.read_artifacts(artifact_filter=artifacts_of_run(_run_id(state))))

    return _awaited(look, are_there)


def pages_of(state: State[object], *expected: str) -> dict[str, str]:
    """Return the text of each page by its key, once those expected are there."""

    def are_there(found: list[Artifact]) -> bool:
        return {each.key for each in found} >= set(expected)

    return {str(each.key): str(each.data) for each in artifacts_of(state, are_there)}


def artifacts_of_run(flow_run_id: UUID) -> ArtifactFilter:
    """Return the filter for the artifacts of a flow run."""
    return ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))


def _run_id(state: State[object]) -> UUID:
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


def _awaited(look: Callable[[], T], is_there: Callable[[T], bool]) -> T:
    give_up = time.monotonic() + _HANG_S
    while not is_there(found := look()) and time.monotonic() < give_up:
        time.sleep(0.05)
    return found
