"""Install this project on a Prefect server: work pools, deployments, automations.

The invariant: installing again updates what the project defines, and keeps what a person has set:
the limit of an existing pool, a schedule that was switched on, an automation that was switched off.
"""

import os
import sys
from pathlib import Path

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from flows.learning.automation import LEARN, learn_automation
from flows.notices.automations import notice_automations
from flows.notices.channels import installed_channels
from flows.prefect_server.automations import install_automations, recovery_automations
from flows.prefect_server.pools import POOLS
from tasks.core.errors import PrefectUnavailable
from tasks.core.files.locks import Say
from tasks.core.home import PROJECT, RESOURCES
from tasks.core.process import NETWORK, child_environment, run_child

_DEPLOYMENTS = RESOURCES / "prefect.yaml"
_PAGE = 200
"""The most that the API returns at once."""


def install_on_server(address: str, *, log: Path, say: Say) -> None:
    """Install pools, deployments and automations on the server at this address.

    The output of `prefect deploy` goes to `log`. Raises PrefectUnavailable if the server refuses a
    deployment.
    """
    with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        _make_pools(client)
        switched_on = _active_schedules(client)
        say("installing the deployments of prefect.yaml")
        _deploy(address, log)
        _switch_on_again(client, switched_on)
        _require_all(client, log)
        notices = notice_automations(channels) if (channels := installed_channels(client)) else []
        learns = learn_automation(client.read_deployment_by_name(LEARN).id)
        install_automations(client, [*recovery_automations(), learns, *notices])


def listed_deployments() -> set[str]:
    """Return the names of the deployments in prefect.yaml."""
    listed = yaml.safe_load(_DEPLOYMENTS.read_text())["deployments"]
    return {each["name"] for each in listed}


def _make_pools(client: SyncPrefectClient) -> None:
    for name, pool in POOLS.items():
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(
                    name=name,
                    type=ProcessWorker.type,
                    description=pool.description,
                    base_job_template=ProcessWorker.get_default_base_job_template(),
                    concurrency_limit=pool.concurrency_limit,
                )
            )


def _deploy(address: str, log: Path) -> None:
    ran = run_child(
        [
            *(sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"),
            *("--prefect-file", str(_DEPLOYMENTS)),
        ],
        env={**child_environment(os.environ, "PREFECT_*", *NETWORK), "PREFECT_API_URL": address},
        cwd=PROJECT,
        log=log,
    )
    if not ran.succeeded:
        raise _refused("\n".join(ran.tail[-20:]), log)


def _require_all(client: SyncPrefectClient, log: Path) -> None:
    """Raise unless every deployment is there: `prefect deploy` exits with 0 even if one failed."""
    there = {deployment.name for deployment in client.read_deployments(limit=_PAGE)}
    if missing := listed_deployments() - there:
        raise _refused(f"missing: {', '.join(sorted(missing))}", log)


def _active_schedules(client: SyncPrefectClient) -> set[tuple[str, str]]:
    return {
        (deployment.name, schedule.slug or "")
        for deployment in client.read_deployments(limit=_PAGE)
        for schedule in deployment.schedules
        if schedule.active
    }


def _switch_on_again(client: SyncPrefectClient, switched_on: set[tuple[str, str]]) -> None:
    """Restore the schedules that were on: deploying recreates them as prefect.yaml defines them."""
    for deployment in client.read_deployments(limit=_PAGE):
        for schedule in deployment.schedules:
            if (deployment.name, schedule.slug or "") in switched_on and not schedule.active:
                client.update_deployment_schedule(deployment.id, schedule.id, active=True)


def _refused(found: str, log: Path) -> PrefectUnavailable:
    return PrefectUnavailable(
        "The server did not accept the deployments of prefect.yaml.",
        found=found,
        next_step=f"Read the whole output: {log}.",
    )
