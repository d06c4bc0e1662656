"""Send a test notice the whole way, from the event to the receiver, and see whether it arrives."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventRelatedFilter,
)
from prefect.events.schemas.events import Event
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.notices.channels import installed_channels
from tasks.core.errors import UsageError
from tasks.notices import Notice, NoticeEvent

_WITHIN_S = 60.0
_POLL_S = 0.5
_EXECUTED, _FAILED = "prefect.automation.action.executed", "prefect.automation.action.failed"
_KINDS = {"send-notification": "message", "call-webhook": "webhook"}


@dataclass(frozen=True)
class Delivery:
    """The delivery to one channel; `found` is the receiver's answer, or why it failed."""

    channel: str
    arrived: bool
    found: str


def send_trial(address: str, *, within_s: float = _WITHIN_S) -> list[Delivery]:
    """Send a notice to every channel of the server; return each delivery.

    A receiver that does not answer in time, or whose automation is switched off, counts as failed.
    Raises UsageError if no channel is installed.
    """
    with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        awaited = set(installed_channels(client))
        if not awaited:
            raise UsageError(
                "No channel for notices is installed on this server.",
                where=address,
                next_step="See `kawan-usaha prefect notices install --help`.",
            )
        sent = _TRIAL.event()
        client.request("POST", "/events", json=[sent.model_dump(mode="json")])
        deadline, ended = time.monotonic() + within_s, dict[str, Delivery]()
        while awaited - ended.keys() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            ended = {each.channel: each for each in _ended(client, sent)}
    late = f"no answer within {within_s:g} s"
    return [ended.get(channel, Delivery(channel, False, late)) for channel in sorted(awaited)]


_TRIAL = Notice(
    NoticeEvent.TEST,
    "recipe",
    "demo",
    title="a test",
    text="Notices of rebuilds, crashes and services arrive here.",
)


def _ended(client: SyncPrefectClient, sent: Event) -> Iterator[Delivery]:
    """Yield the deliveries that this event has caused so far."""
    wanted = EventFilter(
        occurred=EventOccurredFilter(since=sent.occurred - timedelta(minutes=1)),
        event=EventNameFilter(name=[_EXECUTED, _FAILED]),
        related=EventRelatedFilter(id=[f"prefect.event.{sent.id}"]),
    )
    body = {"filter": wanted.model_dump(mode="json"), "limit": 50}
    for each in client.request("POST", "/events/filter", json=body).json()["events"]:
        payload = each["payload"]
        channel = _KINDS[payload["action_type"]]
        status = payload.get("status_code")
        if each["event"] == _FAILED:
            found = " ".join([payload["reason"], payload.get("notification_log", "")]).strip()
            yield Delivery(channel, False, found)
        elif status is not None:
            yield Delivery(channel, status < 400, f"answered by HTTP {status}")
        else:
            yield Delivery(channel, True, "accepted")
