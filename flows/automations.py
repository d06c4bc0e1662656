"""What a Prefect server does by itself about runs that nobody ends: declare them, restart them.

A run whose process, worker or machine was killed stays Running in the database, and counts against
the limit of its work pool. Two automations mend that:

1. no heartbeat for SILENT_FOR_S, and no end: the run is Crashed;
2. Crashed for RESTART_AFTER_S, and nothing has started it again: a run of this project is
   Scheduled, so that a worker takes it. What was finished is in the store. A run that has begun
   MOST_ATTEMPTS times stays Crashed.

The invariant: no run begins more than MOST_ATTEMPTS times without a person.
"""

from collections.abc import Iterable
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.pools import HEARTBEAT_S

SILENT_FOR_S = 4 * HEARTBEAT_S
RESTART_AFTER_S = 90
"""A worker reports a killed run a second time, up to a minute later, and so undoes a restart."""
MOST_ATTEMPTS = 4

RESTART = "kawan-usaha: crashed, restart"
RESTARTED = "It had crashed and is started again; what was finished is kept."
HEARTBEAT = "prefect.flow-run.heartbeat"
_RUN = "prefect.resource.id"
TAG = "kawan-usaha"
"""Every deployment has it: the flows of others on the same server are not ours to start again."""
OF_THIS_PROJECT = {_RUN: f"prefect.tag.{TAG}"}
_ENDS = ("Completed", "Skipped", "Failed", "Cancelling", "Cancelled", "Crashed", "Paused")
"""The names of the states in which a run gives no heartbeats; `Skipped` is one of ours."""
_RESTARTED = ("Scheduled", "AwaitingRetry", "Late", "Pending", "Running", "Retrying")


def automations(
    *, silent_for_s: int = SILENT_FOR_S, restart_after_s: int = RESTART_AFTER_S
) -> list[AutomationCore]:
    """Return both; each is known by its name.

    silent_for_s must be at least three heartbeats, or one that is late is taken for the end.
    """
    attempts = [str(count) for count in range(MOST_ATTEMPTS)]
    return [
        AutomationCore(
            name="kawan-usaha: no heartbeat, crashed",
            description=f"A run that has given no sign of life for {silent_for_s} s is Crashed.",
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
            description=f"A crashed run is started again after {restart_after_s} s, until it has "
            f"begun {MOST_ATTEMPTS} times.",
            trigger=EventTrigger(
                match=ResourceSpecification.model_validate(
                    {_RUN: "prefect.flow-run.*", "prefect.run-count": attempts}
                ),
                # No worker would take a run of the command line, which has no tag of a deployment.
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


def put_automations(client: SyncPrefectClient, wanted: Iterable[AutomationCore]) -> None:
    """Make these on the server, or as they are here; one that was switched off stays off."""
    for automation in wanted:
        there = client.read_automations_by_name(automation.name)
        if not there:
            client.create_automation(automation)
        for each in there:
            kept = automation.model_copy(update={"enabled": each.enabled})
            # An update makes the server forget which runs it has been waiting for.
            if AutomationCore.model_validate(each.model_dump(exclude={"id"})) != kept:
                client.update_automation(each.id, kept)


def _events(states: Iterable[str]) -> set[str]:
    return {f"prefect.flow-run.{state}" for state in states}
