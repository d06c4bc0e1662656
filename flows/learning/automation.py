"""The automation that starts `learn` once `learn-watch` has found enough to learn."""

from datetime import timedelta
from uuid import UUID

from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from tasks.notices import NoticeEvent

AUTOMATION = "kawan-usaha: reviewed, learn"
LEARN = "learn/learn"
ONCE_IN = timedelta(days=1)
"""A training takes hours, and until it has ended its data still counts as new."""


def learn_automation(deployment: UUID) -> AutomationCore:
    """Return the automation that starts this deployment of `learn`, once a day for each recipe."""
    recipe = {"__prefect_kind": "jinja", "template": "{{ event.resource.name }}"}
    return AutomationCore(
        name=AUTOMATION,
        description="Starts `learn` for a released recipe once enough of its conversations are "
        "reviewed. `learn-watch` reports them, once its schedule is switched on.",
        trigger=EventTrigger(
            expect={str(NoticeEvent.REVIEWED)},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=ONCE_IN,
        ),
        actions=[RunDeployment(deployment_id=deployment, parameters={"recipe": recipe})],
    )
