"""The events that send a notice, and its text: one Prefect automation for each.

Each automation sends to every installed channel (`flows/notices/channels.py`) and can be switched
off in the UI. The texts are Prefect templates, which the server fills in.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from prefect.events.actions import ActionTypes, CallWebhook, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.prefect_server.automations import MOST_ATTEMPTS, OF_THIS_PROJECT, RESTART_AFTER_S
from tasks.notices import NoticeEvent

ChannelKind = Literal["message", "webhook"]

CRASHED = "prefect.flow-run.Crashed"
REMIND_EVERY = timedelta(days=1)
"""The watch finds a service that stays down every ten minutes."""
ONE_CRASH = timedelta(hours=1)
"""One crash is reported up to three times: by the parent run, the worker and the automation."""

_ID = "prefect.resource.id"
_TEXT = "{{ event.payload.text }}"
_OF_THE_RUN = "{{ (flow_run | ui_url if flow_run else none) or event.payload.run or '' }}"
"""Where the server does not know the address of its UI, the run gives that of the API."""


@dataclass(frozen=True)
class _Kind:
    """One kind of notice: its event and its text.

    Events with the same values of the labels `each` send at most one notice within `within`.
    """

    name: str
    event: str
    description: str
    title: str = "{{ event.payload.title }}"
    text: str = _TEXT
    within: timedelta = timedelta(0)
    each: frozenset[str] = frozenset({_ID})


_KINDS = (
    _Kind("success", NoticeEvent.SUCCEEDED, "A rebuild has built something and succeeded."),
    _Kind("gate", NoticeEvent.REFUSED, "The gate refused a model for a limit of its recipe."),
    _Kind("failure", NoticeEvent.FAILED, "A rebuild failed for any other reason."),
    _Kind(
        "crash",
        CRASHED,
        "The process, worker or machine of a run was killed.",
        title="{{ flow_run.name }}: the run crashed",
        text="{{ event.resource['prefect.state-message'] }}\n"
        "What was finished is kept. This was attempt {{ event.resource['prefect.run-count'] }} of "
        f"{MOST_ATTEMPTS}: "
        f"{{% if event.resource['prefect.run-count'] | int < {MOST_ATTEMPTS} %}}"
        f"the run is restarted after {RESTART_AFTER_S} s."
        "{% else %}it is not restarted any more; Retry on its page does so.{% endif %}",
        within=ONE_CRASH,
        each=frozenset({_ID, "prefect.run-count"}),
    ),
    _Kind(
        "less memory",
        NoticeEvent.LESS_MEMORY,
        "A fine-tune ran out of memory; it retries.",
    ),
    _Kind("healed", NoticeEvent.HEALED, "A service was down and has been restarted."),
    _Kind(
        "down",
        NoticeEvent.DOWN,
        "A service does not answer and could not be restarted. Sent once a day until it answers.",
        within=REMIND_EVERY,
    ),
    _Kind("test", NoticeEvent.TEST, "What `kawan-usaha prefect notices test` sends."),
)


def notice_automations(channels: dict[ChannelKind, UUID]) -> list[AutomationCore]:
    """Return an automation for each kind of notice; `channels` has the block of each channel."""
    return [_automation(kind, channels) for kind in _KINDS]


def _automation(kind: _Kind, channels: dict[ChannelKind, UUID]) -> AutomationCore:
    crash = kind.event == CRASHED
    return AutomationCore(
        name=f"kawan-usaha: notice of {kind.name}",
        description=kind.description,
        trigger=EventTrigger(
            expect={str(kind.event)},
            match_related=ResourceSpecification.model_validate(OF_THIS_PROJECT if crash else {}),
            for_each=set(kind.each),
            posture=Posture.Reactive,
            threshold=1,
            within=kind.within,
        ),
        actions=[_action(channel, block, kind) for channel, block in channels.items()],
    )


def _action(channel: ChannelKind, block: UUID, kind: _Kind) -> ActionTypes:
    if channel == "message":
        title, text = f"kawan-usaha: {kind.title}", f"{kind.text}\n\n{_OF_THE_RUN}"
        return SendNotification(block_document_id=block, subject=title, body=text)
    return CallWebhook(block_document_id=block, payload=_json(kind))


def _json(kind: _Kind) -> str:
    """Return the template of a JSON object. Its `text` is the whole message, as chats expect it."""
    parts = {"title": kind.title, "body": kind.text, "run": _OF_THE_RUN}
    set_ = "".join(f"{{% set {name} %}}{text}{{% endset %}}" for name, text in parts.items())
    values = {
        "text": "(title ~ '\n' ~ body ~ '\n' ~ run) | trim",
        "title": "title",
        "event": "event.event",
        "about": "event.resource.name",
        "run": "run",
        "facts": "event.payload.facts | default({})",
    }
    pairs = (f'"{name}": {{{{ {value} | tojson }}}}' for name, value in values.items())
    return f"{set_}{{{', '.join(pairs)}}}"
