"""The unfinished runs and active schedules of a Prefect server, in a few lines.

Read over HTTP: importing Prefect takes longer than all the rest of `kawan-usaha status`.
"""

from dataclasses import dataclass
from typing import Any

import httpx

from tasks.core.serving.client.access import verified

_ANSWER_S = 5.0
_UNFINISHED = ["RUNNING", "PENDING", "PAUSED", "CANCELLING"]
_MOST = 200


@dataclass(frozen=True)
class Overview:
    """The unfinished runs of a server with their states, and its active schedules.

    `problem` says why the server did not answer; runs and schedules are empty then.
    """

    ui: str
    runs: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    problem: str | None = None

    def __str__(self) -> str:
        """Return one line for the server, one for the runs, one for the schedules."""
        if self.problem is not None:
            return f"Prefect: {self.ui} does not answer ({self.problem})"
        runs, schedules = (", ".join(each) or "none" for each in (self.runs, self.schedules))
        return f"Prefect: {self.ui}\n  unfinished runs: {runs}\n  active schedules: {schedules}"


def overview(address: str) -> Overview:
    """Return the overview of the server at this API address; it raises nothing if that is away."""
    ui = address.removesuffix("/api")
    try:
        verify = verified(address)
        with httpx.Client(
            base_url=address, timeout=_ANSWER_S, trust_env=False, verify=verify
        ) as client:
            state = {"type": {"any_": _UNFINISHED}}
            outermost = {"is_null_": True}
            wanted = {"state": state, "parent_task_run_id": outermost}
            runs = _found(client, "/flow_runs/filter", {"flow_runs": wanted})
            deployments = _found(client, "/deployments/filter", {})
    except httpx.HTTPError as error:
        return Overview(ui, problem=type(error).__name__)
    return Overview(
        ui,
        tuple(f"{run['name']} ({run['state_name']})" for run in runs),
        tuple(
            f"{deployment['name']} ({schedule['schedule'].get('cron', 'another kind')})"
            for deployment in deployments
            for schedule in deployment["schedules"]
            if schedule["active"]
        ),
    )


def _found(client: httpx.Client, path: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post(path, json={**wanted, "limit": _MOST}).raise_for_status()
    return list(answer.json())
