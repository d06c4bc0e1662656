"""Flows for schedules: upkeep, and a rebuild that another run is at already."""

from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.context import FlowRunContext

from flows.rebuild.already_running import skipped_if_running
from flows.upkeep import serving_watch, store_prune
from tasks.core.store import Store

pytestmark = pytest.mark.usefixtures("prefect")


def test_nothing_is_pruned_beside_a_rebuild_and_that_is_no_failure(home: Path) -> None:
    with Store(home, "rebuild demo").in_use():
        state = store_prune(dry_run=False, return_state=True)
    assert (state.is_completed(), state.name) == (True, "Skipped")
    assert "rebuild demo" in (state.message or "")


def test_dry_run_says_what_would_go_and_removes_nothing(home: Path) -> None:
    damaged = home / "store" / ".corrupt" / "merge-1"
    damaged.mkdir(parents=True)
    (damaged / "shard").write_bytes(b"1" * 1000)
    state = store_prune(dry_run=True, return_state=True)
    assert "would be freed, 1 items" in (state.message or "")
    assert damaged.exists()
    store_prune(dry_run=False, return_state=True)
    assert not damaged.exists()


def test_watching_nothing_is_no_failure(home: Path) -> None:
    state = serving_watch(return_state=True)
    assert (state.is_completed(), state.message) == (True, "Nothing is deployed.")


@flow
def scheduled(is_scheduled: bool) -> State[None] | str:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    context.flow_run.auto_scheduled = is_scheduled
    return skipped_if_running("demo") or "works"


def test_scheduled_run_is_skipped_while_the_same_recipe_is_rebuilt(home: Path) -> None:
    with Store(home, "rebuild demo").in_use():
        state = scheduled(is_scheduled=True, return_state=True)
    assert (state.is_completed(), state.name) == (True, "Skipped")
    assert "rebuild demo: running since" in (state.message or "")


def test_run_that_somebody_started_waits_instead_of_being_skipped(home: Path) -> None:
    with Store(home, "rebuild demo").in_use():
        assert scheduled(is_scheduled=False) == "works"


def test_scheduled_run_works_beside_another_recipe(home: Path) -> None:
    with Store(home, "rebuild other").in_use():
        assert scheduled(is_scheduled=True) == "works"


def test_a_schedule_that_is_on_makes_runs() -> None:
    """Prefect's server fails to with SQLAlchemy 2.1, and tells nobody."""
    every_ten_minutes = DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=timedelta(minutes=10)), active=True
    )
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            flow_id=client.create_flow(scheduled), name="on", schedules=[every_ten_minutes]
        )
        path = "/deployments/{id}/schedule"
        client.request("POST", path, path_params={"id": deployment}, json={"min_runs": 3})
        runs = client.read_flow_runs()
    planned = [run for run in runs if run.deployment_id == deployment and run.auto_scheduled]
    assert len(planned) >= 3
