"""Which happenings a person or a program is told of, and in which words: an automation for each.

Each sends to every channel that was installed (`flows/notice_channels.py`), and can be switched off
by itself in the UI. The texts are templates of Prefect's: the server fills them in.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from prefect.events.actions import ActionTypes, CallWebhook, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.automations import MOST_ATTEMPTS, OF_THIS_PROJECT, RESTART_AFTER_S
from tasks.notices import Happening

Kind = Literal["message", "webhook"]

CRASHED = "prefect.flow-run.Crashed"
REMIND_EVERY = timedelta(days=1)
"""A service that stays down is found to be so every ten minutes."""
ONE_CRASH = timedelta(hours=1)
"""A crash comes up to three times: from the run's parent, from the worker, from the automation."""

_ID = "prefect.resource.id"
_TEXT = "{{ event.payload.text }}"
_OF_THE_RUN = "{{ (flow_run | ui_url if flow_run else none) or event.payload.run or '' }}"
"""A server that was not told the address of its UI leaves it to the run, which knows the API's."""


@dataclass(frozen=True)
class _Told:
    """One automation: what is told, and in which words.

    At most one notice goes out within this time where the event's resource has the same `each`.
    """

    name: str
    event: str
    description: str
    title: str = "{{ event.payload.title }}"
    text: str = _TEXT
    within: timedelta = timedelta(0)
    each: frozenset[str] = frozenset({_ID})


_TOLD = (
    _Told("success", Happening.SUCCEEDED, "A rebuild has made something, and all of it is well."),
    _Told("gate", Happening.REFUSED, "A model does not keep its recipe's limits."),
    _Told("failure", Happening.FAILED, "A rebuild failed for any other reason."),
    _Told(
        "crash",
        CRASHED,
        "The process, the worker or the machine of a run was killed.",
        title="{{ flow_run.name }}: the run crashed",
        text="{{ event.resource['prefect.state-message'] }}\n"
        "What was finished is kept. This was attempt {{ event.resource['prefect.run-count'] }} of "
        f"{MOST_ATTEMPTS}: "
        f"{{% if event.resource['prefect.run-count'] | int < {MOST_ATTEMPTS} %}}"
        f"the run is started again after {RESTART_AFTER_S} s."
        "{% else %}it is not started again by itself; Retry on its page does so.{% endif %}",
        within=ONE_CRASH,
        each=frozenset({_ID, "prefect.run-count"}),
    ),
    _Told("less memory", Happening.LESS_MEMORY, "A fine-tune ran out of memory and goes on."),
    _Told("healed", Happening.HEALED, "A service was down and has been started again."),
    _Told(
        "down",
        Happening.DOWN,
        "A service does not answer and was not started again. Once a day while that lasts.",
        within=REMIND_EVERY,
    ),
    _Told("test", Happening.TEST, "What `kawan-usaha prefect notices test` sends."),
)


def notice_automations(channels: dict[Kind, UUID]) -> list[AutomationCore]:
    """Return all of them, which send to these channels: a block document for each kind."""
    return [_automation(told, channels) for told in _TOLD]


def _automation(told: _Told, channels: dict[Kind, UUID]) -> AutomationCore:
    crash = told.event == CRASHED
    return AutomationCore(
        name=f"kawan-usaha: notice of {told.name}",
        description=told.description,
        trigger=EventTrigger(
            expect={str(told.event)},
            match_related=ResourceSpecification.model_validate(OF_THIS_PROJECT if crash else {}),
            for_each=set(told.each),
            posture=Posture.Reactive,
            threshold=1,
            within=told.within,
        ),
        actions=[_action(kind, block, told) for kind, block in channels.items()],
    )


def _action(kind: Kind, block: UUID, told: _Told) -> ActionTypes:
    if kind == "message":
        title, text = f"kawan-usaha: {told.title}", f"{told.text}\n\n{_OF_THE_RUN}"
        return SendNotification(block_document_id=block, subject=title, body=text)
    return CallWebhook(block_document_id=block, payload=_json(told))


def _json(told: _Told) -> str:
    """Return the template of a JSON object. Its `text` is the whole message, as chats expect it."""
    parts = {"title": told.title, "body": told.text, "run": _OF_THE_RUN}
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
