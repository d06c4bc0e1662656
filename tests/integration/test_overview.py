"""What `kawan-usaha status` shows of a Prefect server."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Running

from flows.prefect_server.overview import overview
from tasks.core.process.ports import free_port


def test_server_that_is_away_is_told_and_fails_nothing() -> None:
    found = overview(f"http://127.0.0.1:{free_port()}/api")
    assert found.problem == "ConnectError"
    assert str(found).endswith("does not answer (ConnectError)")


def test_unfinished_runs_and_schedules_that_are_on_are_shown(prefect: None) -> None:
    def schedule(cron: str, *, active: bool) -> DeploymentScheduleCreate:
        return DeploymentScheduleCreate(schedule=CronSchedule(cron=cron), active=active)

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("rebuild-recipe")
        both = [schedule("0 3 * * 0", active=True), schedule("0 4 * * 0", active=False)]
        watched = client.create_deployment(flow_id, name="watched", schedules=both)
        for name, state in (("at-work", Running()), ("ended", Completed())):
            run = client.create_flow_run_from_deployment(watched, name=name)
            client.set_flow_run_state(run.id, state, force=True)
        found = overview(str(PREFECT_API_URL.value()))
        client.delete_deployment(watched)
    assert found.schedules == ("watched (0 3 * * 0)",)
    assert "at-work (Running)" in found.runs
    assert not any("ended" in run for run in found.runs)
    assert found.problem is None
