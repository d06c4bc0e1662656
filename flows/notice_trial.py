"""One notice through the whole way, from the event to the receiver, to see that it arrives."""

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

from flows.notice_channels import installed
from tasks.core.errors import UsageError
from tasks.notices import Happening, Notice

_WITHIN_S = 60.0
_POLL_S = 0.5
_EXECUTED, _FAILED = "prefect.automation.action.executed", "prefect.automation.action.failed"
_KINDS = {"send-notification": "message", "call-webhook": "webhook"}


@dataclass(frozen=True)
class Sent:
    """How the server got on with one channel; found says what it was answered, or why it failed."""

    channel: str
    arrived: bool
    found: str


def try_out(address: str, *, within_s: float = _WITHIN_S) -> list[Sent]:
    """Send a notice to every channel of the server, and return how each of them did.

    A channel that has not answered in time, or whose automation is switched off, has not arrived.
    Raises UsageError where no channel is installed.
    """
    with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        awaited = set(installed(client))
        if not awaited:
            raise UsageError(
                "No notices are installed on this server.",
                where=address,
                next_step="`kawan-usaha prefect notices install --help` says how.",
            )
        sent = _TRIAL.event()
        client.request("POST", "/events", json=[sent.model_dump(mode="json")])
        deadline, ended = time.monotonic() + within_s, dict[str, Sent]()
        while awaited - ended.keys() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            ended = {each.channel: each for each in _ended(client, sent)}
    late = f"no answer within {within_s:g} s"
    return [ended.get(channel, Sent(channel, False, late)) for channel in sorted(awaited)]


_TRIAL = Notice(
    Happening.TEST,
    "recipe",
    "demo",
    title="a test",
    text="Notices of rebuilds, crashes and services arrive here.",
)


def _ended(client: SyncPrefectClient, sent: Event) -> Iterator[Sent]:
    """Yield what the actions that this event has caused have come to."""
    wanted = EventFilter(
        occurred=EventOccurredFilter(since=sent.occurred - timedelta(minutes=1)),
        event=EventNameFilter(name=[_EXECUTED, _FAILED]),
        related=EventRelatedFilter(id=[f"prefect.event.{sent.id}"]),
    )
    body = {"filter": wanted.model_dump(mode="json"), "limit": 50}
    for each in client.request("POST", "/events/filter", json=body).json()["events"]:
        told = each["payload"]
        channel = _KINDS[told["action_type"]]
        status = told.get("status_code")
        if each["event"] == _FAILED:
            found = " ".join([told["reason"], told.get("notification_log", "")]).strip()
            yield Sent(channel, False, found)
        elif status is not None:
            yield Sent(channel, status < 400, f"answered by HTTP {status}")
        else:
            yield Sent(channel, True, "and taken")
