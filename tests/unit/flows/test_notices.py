"""What is told when nobody watches: in which words, to whom, and what never is."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from apprise import Apprise
from prefect.blocks.core import Block
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.events.actions import CallWebhook, SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.events import Event, Resource
from prefect.server.utilities.user_templates import render_user_template_sync

from flows.notices.automations import CRASHED, REMIND_EVERY, notice_automations
from flows.notices.channels import configured_channels
from flows.prefect_server.automations import RESTART_AFTER_S
from flows.prefect_server.local_prefect import LocalPrefect
from flows.prefect_server.pools import MESSAGE_VARIABLE, WEBHOOK_VARIABLE
from flows.prefect_server.processes import process_environment
from flows.rebuild.notices import failure_notice, stages_notice, success_notice
from flows.rebuild.run_summary import RunSummary
from flows.upkeep import service_notices
from tasks.core.errors import DataError, GateFailed, UsageError
from tasks.core.recipe import Base, Recipe
from tasks.core.serving.observe.healing import Looked
from tasks.notices import Notice, NoticeEvent, notify
from tasks.stage_result import StageResult
from tests.secrets import SESAME

MAIL = "mailto://bob:sesame@smtp.example.org?from=kawan@example.org&to=team@example.org"
HOOK = "https://hooks.example.org/sesame"
QUOTED = 'it said "no" <b>\n\\and\\ {{ went }}'


def automation_of(event: str) -> AutomationCore:
    made = notice_automations({"message": uuid4(), "webhook": uuid4()})
    (found,) = [each for each in made if event in each.trigger.expect]
    return found


def rendered(template: str, event: Event) -> str:
    return render_user_template_sync(template, {"event": event})


def a_stage(*, cached: bool) -> StageResult:
    return StageResult(
        stage="download",
        artifact="download-1",
        digest="0" * 64,
        path=Path("/store"),
        cached=cached,
        wall_s=0.0,
        size_bytes=0,
        peak_memory_bytes=0,
    )


def a_report(*stages: StageResult) -> RunSummary:
    return RunSummary(Recipe(name="demo", base=Base(repo="a/b")), stages)


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        (MESSAGE_VARIABLE, "sesame"),
        (MESSAGE_VARIABLE, "nonsense://sesame@example.org"),
        (WEBHOOK_VARIABLE, "hooks.example.org/sesame"),
        (WEBHOOK_VARIABLE, "ftp://sesame@example.org"),
        (WEBHOOK_VARIABLE, "https:///sesame"),
    ],
)
def test_what_is_no_address_is_refused_and_never_quoted(variable: str, address: str) -> None:
    with pytest.raises(UsageError) as refused:
        configured_channels({variable: address})
    assert variable in str(refused.value)
    assert SESAME not in str(refused.value)


def test_neither_variable_is_no_channel() -> None:
    assert configured_channels({MESSAGE_VARIABLE: " "}) == {}


def test_addresses_are_secrets_of_their_blocks() -> None:
    found = configured_channels({MESSAGE_VARIABLE: MAIL, WEBHOOK_VARIABLE: HOOK})
    assert list(found) == ["message", "webhook"]
    assert SESAME not in repr(found)
    hook = found["webhook"]
    assert isinstance(hook, Webhook)
    assert hook.url.get_secret_value() == HOOK


@pytest.mark.parametrize(
    ("address", "sent_to"),
    [
        (MAIL, f"{MAIL}&format=text"),
        ("mailtos://bob:sesame@example.org", "mailtos://bob:sesame@example.org?format=text"),
        (f"{MAIL}&format=html", f"{MAIL}&format=html"),
        ("https://hooks.slack.com/services/T1/B1/c1", "https://hooks.slack.com/services/T1/B1/c1"),
    ],
)
def test_mail_is_plain_text_unless_said_otherwise(address: str, sent_to: str) -> None:
    block: Block = configured_channels({MESSAGE_VARIABLE: address})["message"]
    assert isinstance(block, SlackWebhook)
    assert block.url.get_secret_value() == sent_to
    assert Apprise().add(sent_to)


def test_no_process_of_the_server_gets_to_know_the_addresses(tmp_path: Path) -> None:
    given = {MESSAGE_VARIABLE: MAIL, WEBHOOK_VARIABLE: HOOK, "HF_TOKEN": "a run's"}
    made = process_environment(LocalPrefect(tmp_path, ()), "http://127.0.0.1:4200/api", given)
    assert SESAME not in str(made)
    assert made["HF_TOKEN"] == "a run's"


def test_text_of_an_exception_that_nobody_has_explained_is_not_told() -> None:
    notice = failure_notice("demo", ConnectionError(f"https://bob:{SESAME}@example.org"))
    assert notice.what is NoticeEvent.FAILED
    assert "ConnectionError" in notice.text
    assert SESAME not in str(notice)


def test_refusal_of_the_gate_is_told_with_its_next_step() -> None:
    notice = failure_notice("demo", GateFailed("Too bad.", found="ratio 9", next_step="Read."))
    assert notice.what is NoticeEvent.REFUSED
    assert notice.title == "demo: refused by its gate"
    assert notice.text == "Too bad.\n  found: ratio 9\n  next step: Read."
    assert notice.facts["found"] == "ratio 9"


def test_explained_failure_is_told_as_it_is_explained() -> None:
    notice = failure_notice("demo", DataError("Nothing to learn."))
    assert (notice.what, notice.text) == (NoticeEvent.FAILED, "Nothing to learn.")


def test_rebuild_that_found_everything_done_is_no_success_to_be_told_of() -> None:
    notice = success_notice(a_report(a_stage(cached=True)))
    assert (notice.what, notice.title) == (NoticeEvent.UNCHANGED, "demo: nothing new")
    told = {event for each in notice_automations({}) for event in each.trigger.expect}
    assert NoticeEvent.UNCHANGED not in told
    assert told == {*NoticeEvent, CRASHED} - {NoticeEvent.UNCHANGED, NoticeEvent.REVIEWED}


def test_success_says_what_was_done() -> None:
    notice = success_notice(a_report(a_stage(cached=False)))
    assert (notice.what, notice.text) == (NoticeEvent.SUCCEEDED, "Done: download.")
    assert notice.facts["done"] == ["download"]


def test_rebuild_across_machines_tells_what_all_of_its_stages_have_done() -> None:
    cached = "Nothing new: every stage was cached."
    said = {"download": cached, "merge": "Done: merge.", "gate": f"{cached} Gate passed. Served."}
    notice = stages_notice("demo", said)
    assert (notice.what, notice.title) == (NoticeEvent.SUCCEEDED, "demo: rebuilt")
    assert notice.text == "Done: merge. Gate passed. Served."
    assert notice.facts["done"] == ["merge"]
    assert stages_notice("demo", {"download": cached}).what is NoticeEvent.UNCHANGED


def test_service_that_answers_is_not_told_of_and_the_others_are() -> None:
    looks = [
        Looked("a", "healthy", "answers"),
        Looked("b", "healed", "gone; it was started again"),
        Looked("c", "down", "gone; no memory"),
        Looked("d", "left alone", "unhealthy"),
    ]
    told = [(each.what, each.name, each.title) for each in service_notices(looks)]
    assert told == [
        (NoticeEvent.HEALED, "b", "b: was down, serves again"),
        (NoticeEvent.DOWN, "c", "c: is down"),
        (NoticeEvent.DOWN, "d", "d: is down"),
    ]


def test_nobody_is_told_outside_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[object] = []
    monkeypatch.setattr("tasks.notices.post", posted.append)
    notify(Notice(NoticeEvent.TEST, "recipe", "demo", "title", "text"))
    assert posted == []


def test_service_that_stays_down_is_told_of_once_a_day() -> None:
    down = automation_of(NoticeEvent.DOWN).trigger
    assert (down.within, down.for_each) == (REMIND_EVERY, {"prefect.resource.id"})
    assert automation_of(NoticeEvent.HEALED).trigger.within.total_seconds() == 0


def test_crashes_of_other_projects_are_not_told() -> None:
    related = automation_of(CRASHED).trigger.match_related
    assert related.root == {"prefect.resource.id": "prefect.tag.kawan-usaha"}


def test_message_is_the_title_and_the_text_whatever_stands_in_them() -> None:
    event = Notice(NoticeEvent.HEALED, "service", "demo", f"demo: {QUOTED}", QUOTED).event()
    action = automation_of(NoticeEvent.HEALED).actions[0]
    assert isinstance(action, SendNotification)
    assert rendered(action.subject, event) == f"kawan-usaha: demo: {QUOTED}"
    assert rendered(action.body, event).rstrip() == QUOTED


def test_webhook_gets_json_whatever_stands_in_it() -> None:
    facts = {"found": QUOTED, "passed": None, "done": ["merge"]}
    event = Notice(NoticeEvent.SUCCEEDED, "recipe", "demo", "demo: rebuilt", QUOTED, facts).event()
    action = automation_of(NoticeEvent.SUCCEEDED).actions[1]
    assert isinstance(action, CallWebhook)
    assert json.loads(rendered(action.payload, event)) == {
        "text": f"demo: rebuilt\n{QUOTED}",
        "title": "demo: rebuilt",
        "event": "kawan-usaha.rebuild.succeeded",
        "about": "demo",
        "run": "",
        "facts": facts,
    }


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        ("1", f"the run is restarted after {RESTART_AFTER_S} s."),
        ("4", "it is not restarted any more"),
    ],
)
def test_crash_says_whether_the_run_is_started_again(attempt: str, said: str) -> None:
    state = {"prefect.state-message": "No heartbeat.", "prefect.run-count": attempt}
    resource = Resource({"prefect.resource.id": "prefect.flow-run.1", **state})
    action = automation_of(CRASHED).actions[0]
    assert isinstance(action, SendNotification)
    text = rendered(action.body, Event(event=CRASHED, resource=resource))
    assert text.startswith("No heartbeat.\nWhat was finished is kept. This was attempt")
    assert said in text
