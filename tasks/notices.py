"""Notices as Prefect events; an automation turns each into a message.

Covers what only this project knows: that a run crashed is an event of Prefect's own. An event
carries its whole message: a title, a text, and facts for programs. Its resource is the subject
(`kawan-usaha.recipe.demo`); the run that sends it is related, and so are its parent runs and their
deployments. The invariant: sending a notice fails no run and delays none.
"""

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.events.schemas.events import Event, RelatedResource, Resource
from prefect.utilities.urls import url_for
from pydantic import JsonValue

from tasks.core.serving.observe.incidents import Incident
from tasks.outbox import REQUEST_WITHIN_S, post

Subject = Literal["recipe", "service"]


class NoticeEvent(StrEnum):
    """The events that a notice can report."""

    SUCCEEDED = "kawan-usaha.rebuild.succeeded"
    UNCHANGED = "kawan-usaha.rebuild.unchanged"
    FAILED = "kawan-usaha.rebuild.failed"
    REFUSED = "kawan-usaha.gate.refused"
    LESS_MEMORY = "kawan-usaha.finetune.less-memory"
    HEALED = "kawan-usaha.service.healed"
    DOWN = "kawan-usaha.service.down"
    REVIEWED = "kawan-usaha.reviewed"
    TEST = "kawan-usaha.notices.test"


@dataclass(frozen=True)
class Notice:
    """An event of a recipe or service, with its message. It must contain no secret."""

    what: NoticeEvent
    kind: Subject
    name: str
    title: str
    text: str
    facts: Mapping[str, JsonValue] = field(default_factory=dict)

    def event(self) -> Event:
        """Return the event for Prefect's API."""
        resource = {
            "prefect.resource.id": f"kawan-usaha.{self.kind}.{self.name}",
            "prefect.resource.name": self.name,
        }
        return Event(
            event=str(self.what),
            resource=Resource(resource),
            payload={"title": self.title, "text": self.text, "facts": dict(self.facts)},
        )


def notify(notice: Notice) -> None:
    """Send the notice as an event of the current flow run. Returns at once.

    Outside of a flow run it is not sent.
    """
    flow = FlowRunContext.get()
    if flow is not None and flow.flow_run is not None:
        post(_OutgoingEvent(notice.event(), flow.flow_run))


def incident_notice(service: str, incident: Incident) -> Notice:
    """Return the notice of an incident: HEALED, or DOWN for one that the watch cannot repair."""
    down = incident.kind in ("edit-lost", "worker-lost")
    what = NoticeEvent.DOWN if down else NoticeEvent.HEALED
    title = f"{service}: {incident.process} {incident.kind}"
    facts = {"kind": incident.kind, "process": incident.process}
    return Notice(what, "service", service, title, incident.detail, facts)


def send_at_once(notice: Notice) -> None:
    """Send the notice at once, from a process without a flow run. Raises whatever fails."""
    settings = {"timeout": REQUEST_WITHIN_S}
    with get_client(httpx_settings=settings, sync_client=True) as client:
        client.request("POST", "/events", json=[notice.event().model_dump(mode="json")])


def is_subflow() -> bool:
    """Return whether another run started this one, and so sends the notice."""
    flow = FlowRunContext.get()
    run = flow.flow_run if flow is not None else None
    return run is not None and run.parent_task_run_id is not None


class _OutgoingEvent:
    """One event in the outbox. The API knows it by its ID, so sending it twice is harmless."""

    def __init__(self, event: Event, run: FlowRun) -> None:
        self.newest = event
        self.is_refused = False
        self._run = run
        self._context = contextvars.copy_context()  # the settings that name the API

    def __str__(self) -> str:
        return f"the event {self.newest.event}"

    def send(self) -> None:
        self._context.run(self._send)

    def _send(self) -> None:
        settings = {"timeout": REQUEST_WITHIN_S}
        with get_client(httpx_settings=settings, sync_client=True) as client:
            runs = _runs(client, self._run)
            related = [each for run in runs for each in _related(run)]
            payload = {**self.newest.payload, "run": url_for("flow-run", obj_id=runs[0].id)}
            event = self.newest.model_copy(update={"related": related, "payload": payload})
            client.request("POST", "/events", json=[event.model_dump(mode="json")])


def _runs(client: SyncPrefectClient, run: FlowRun) -> list[FlowRun]:
    """Return the parent runs and then the run: the outermost is what a person can retry."""
    if run.parent_task_run_id is None:
        return [run]
    called_by = client.read_task_run(run.parent_task_run_id).flow_run_id
    return [*_runs(client, client.read_flow_run(called_by)), run] if called_by else [run]


def _related(run: FlowRun) -> list[RelatedResource]:
    related = [_resource("flow-run", str(run.id), run.name)]
    if run.deployment_id is not None:
        related.append(_resource("deployment", str(run.deployment_id)))
    return related


def _resource(role: str, identity: str, name: str | None = None) -> RelatedResource:
    labels = {"prefect.resource.id": f"prefect.{role}.{identity}", "prefect.resource.role": role}
    return RelatedResource(labels | ({"prefect.resource.name": name} if name else {}))
