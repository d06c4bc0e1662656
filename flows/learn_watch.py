"""`learn-watch`: tells Prefect when enough was reviewed, and the automation that then learns.

Reviews are written where the model serves, by a process that knows nothing of Prefect. So a small
run on that machine counts them, on a schedule that somebody has switched on, and sends the event
`kawan-usaha.reviewed`; the automation starts the deployment `learn` with the recipe that it names.
"""

from datetime import timedelta
from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.states import Completed

from flows.form import MinWaiting
from tasks.core.errors import KawanUsahaError
from tasks.core.home import home
from tasks.core.learning.waiting import Waiting, waiting
from tasks.core.machine.activity import running_work
from tasks.core.process.stopping import stop_in_time
from tasks.notices import Happening, Notice, notify
from tasks.runtime import explained_failure
from tasks.telling import flush

AUTOMATION = "kawan-usaha: reviewed, learn"
LEARN = "learn/learn"
ONCE_IN = timedelta(days=1)
"""A training takes hours, and what it learns counts as new until it has ended."""


@flow(name="learn-watch")
def learn_watch(min_new: MinWaiting = 50) -> State[None] | State[KawanUsahaError]:
    """Tell of each released recipe of which enough was reviewed that it has not learned yet.

    Args:
        min_new: So many accepted answers that no run has learned are enough.
    """
    try:
        with stop_in_time():
            found = list(waiting(home()))
            at_work = {each.what for each in running_work(home())}
    except Exception as error:  # noqa: BLE001 - whatever nobody knows is raised again
        return explained_failure(error)
    for each in found:
        if each.new >= min_new and not at_work & {
            f"{w} {each.recipe}" for w in ("rebuild", "learn")
        }:
            notify(of_reviewed(each))
    flush()
    words = "; ".join(map(str, found)) or "No deployment of a released recipe collects."
    enough = any(each.new >= min_new for each in found)
    return Completed(name=None if enough else "Skipped", message=words)


def of_reviewed(found: Waiting) -> Notice:
    """Return the event that a recipe has something to learn."""
    return Notice(
        Happening.REVIEWED,
        "recipe",
        found.recipe,
        f"{found.recipe}: {found.new} new reviewed conversations",
        str(found),
        {"new": found.new, "answers": found.answers},
    )


def learn_automation(deployment: UUID) -> AutomationCore:
    """Return what starts this deployment, which must be `learn`, for each recipe once a day."""
    recipe = {"__prefect_kind": "jinja", "template": "{{ event.resource.name }}"}
    return AutomationCore(
        name=AUTOMATION,
        description="A released recipe learns once enough of its conversations was reviewed. "
        "`learn-watch` tells, once its schedule is switched on.",
        trigger=EventTrigger(
            expect={str(Happening.REVIEWED)},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=ONCE_IN,
        ),
        actions=[RunDeployment(deployment_id=deployment, parameters={"recipe": recipe})],
    )
