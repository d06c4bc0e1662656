"""The Prefect automations that detect a killed run and restart it.

A run whose process, worker or machine was killed stays Running in the database and counts against
the limit of its work pool. Two automations handle that:

1. no heartbeat for SILENT_FOR_S, and no end: the run becomes Crashed;
2. Crashed for RESTART_AFTER_S without a restart: a run of this project becomes Scheduled, and a
   worker takes it. What was finished is in the store. After MOST_ATTEMPTS attempts a run stays
   Crashed.

The invariant: without a person, no run is attempted more than MOST_ATTEMPTS times.
"""

from collections.abc import Iterable
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.prefect_server.pools import HEARTBEAT_S

SILENT_FOR_S = 4 * HEARTBEAT_S
RESTART_AFTER_S = 90
"""A worker reports a killed run a second time, up to a minute later, which undoes a restart."""
MOST_ATTEMPTS = 4

RESTART = "kawan-usaha: crashed, restart"
RESTARTED = "The run crashed and was restarted; what was finished is kept."
HEARTBEAT = "prefect.flow-run.heartbeat"
_RUN = "prefect.resource.id"
PROJECT_TAG = "kawan-usaha"
"""A tag of every deployment of this project: other projects' flows are not ours to restart."""
OF_THIS_PROJECT = {_RUN: f"prefect.tag.{PROJECT_TAG}"}
_ENDS = ("Completed", "Skipped", "Failed", "Cancelling", "Cancelled", "Crashed", "Paused")
"""The states in which a run sends no heartbeats; `Skipped` is one of this project."""
_RESTARTED = ("Scheduled", "AwaitingRetry", "Late", "Pending", "Running", "Retrying")


def recovery_automations(
    *, silent_for_s: int = SILENT_FOR_S, restart_after_s: int = RESTART_AFTER_S
) -> list[AutomationCore]:
    """Return both automations; the server knows each by its name.

    silent_for_s must be at least three heartbeats: a late one must not count as a crash.
    """
    attempts = [str(count) for count in range(MOST_ATTEMPTS)]
    return [
        AutomationCore(
            name="kawan-usaha: no heartbeat, crashed",
            description=f"A run without a heartbeat for {silent_for_s} s becomes Crashed.",
            trigger=EventTrigger(
                match=ResourceSpecification.model_validate({_RUN: "prefect.flow-run.*"}),
                after={HEARTBEAT},
                expect={HEARTBEAT, *_events(_ENDS)},
                for_each={_RUN},
                posture=Posture.Proactive,
                within=timedelta(seconds=silent_for_s),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    message=f"No heartbeat for {silent_for_s} s: its process, its worker or the "
                    "machine was killed.",
                )
            ],
        ),
        AutomationCore(
            name=RESTART,
            description=f"A crashed run is restarted after {restart_after_s} s, at most "
            f"{MOST_ATTEMPTS - 1} times.",
            trigger=EventTrigger(
                match=ResourceSpecification.model_validate(
                    {_RUN: "prefect.flow-run.*", "prefect.run-count": attempts}
                ),
                # A run from the command line, which no worker would take, lacks the tag.
                match_related=ResourceSpecification.model_validate(OF_THIS_PROJECT),
                after=_events(["Crashed"]),
                expect=_events([*_RESTARTED, "Completed", "Failed", "Cancelled"]),
                for_each={_RUN},
                posture=Posture.Proactive,
                within=timedelta(seconds=restart_after_s),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED,
                    name="AwaitingRetry",
                    message=RESTARTED,
                )
            ],
        ),
    ]


def install_automations(client: SyncPrefectClient, wanted: Iterable[AutomationCore]) -> None:
    """Create or update these on the server; one that was switched off stays off."""
    for automation in wanted:
        there = client.read_automations_by_name(automation.name)
        if not there:
            client.create_automation(automation)
        for each in there:
            kept = automation.model_copy(update={"enabled": each.enabled})
            # An update makes the server forget the runs that it is waiting for.
            if AutomationCore.model_validate(each.model_dump(exclude={"id"})) != kept:
                client.update_automation(each.id, kept)


def _events(states: Iterable[str]) -> set[str]:
    return {f"prefect.flow-run.{state}" for state in states}
