"""From what happens in a flow to the mail and the webhook: through a real Prefect server."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Crashed, Failed

from flows.across import rebuild_across
from flows.lifecycle import rebuild, rebuild_recipe
from flows.notices.automations import notice_automations
from flows.notices.channels import install_channels, remove_channels
from flows.notices.trial import Delivery, send_trial
from flows.prefect_server.automations import RESTART_AFTER_S
from flows.prefect_server.pools import MESSAGE_VARIABLE, WEBHOOK_VARIABLE
from flows.rebuild.end_states import completed_state
from flows.rebuild.run_summary import RunSummary
from flows.upkeep import service_notices
from tasks.core.errors import UsageError
from tasks.core.recipe import Base, Recipe
from tasks.core.serving.observe.healing import Looked
from tasks.notices import Notice, NoticeEvent, notify
from tasks.outbox import flush
from tests.integration.relay import Relay
from tests.receivers import Mailbox, WebhookReceiver

pytestmark = pytest.mark.usefixtures("prefect")
BLOCKED_S = 30.0
TRIAL_S = 300.0
"""Far above what an answer takes, also on a busy machine."""


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.close()


@pytest.fixture(scope="module")
def webhook() -> Iterator[WebhookReceiver]:
    made = WebhookReceiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(prefect: None) -> str:
    return str(PREFECT_API_URL.value())


@pytest.fixture(scope="module")
def installed(api: str, mailbox: Mailbox, webhook: WebhookReceiver) -> Iterator[str]:
    """The address of a server that sends notices to the mailbox and the webhook."""
    install_channels(api, {MESSAGE_VARIABLE: address_of(mailbox), WEBHOOK_VARIABLE: webhook.url})
    yield api
    remove_channels(api)


def address_of(mailbox: Mailbox) -> str:
    return f"mailto://127.0.0.1:{mailbox.port}?from=kawan@example.org&to=team@example.org"


def seen(*looks: Looked) -> None:
    """Tell, in a flow run, what a look at the services has found."""

    @flow(name="serving-watch")
    def watch() -> None:
        for notice in service_notices(looks):
            notify(notice)
        flush(BLOCKED_S)

    watch()


def test_without_an_address_nothing_is_installed(api: str) -> None:
    with pytest.raises(UsageError, match="No address"):
        install_channels(api, {})
    with pytest.raises(UsageError, match="No channel for notices"):
        send_trial(api)
    assert remove_channels(api) == []


@pytest.mark.slow
def test_trial_tells_a_channel_that_refuses_from_one_that_takes(
    installed: str, webhook: WebhookReceiver, mailbox: Mailbox
) -> None:
    webhook.status = 500
    sent = send_trial(installed, within_s=TRIAL_S)
    webhook.status = 204
    assert sent == [
        Delivery("message", True, "accepted"),
        Delivery("webhook", False, "answered by HTTP 500"),
    ]
    assert mailbox.mail("kawan-usaha: a test")["to"] == "team@example.org"


def test_trial_says_why_nothing_could_be_sent(api: str, installed: str, mailbox: Mailbox) -> None:
    install_channels(
        api, {MESSAGE_VARIABLE: "mailto://bob:sesame@127.0.0.1:9?from=a@b.org&to=c@d.org"}
    )
    message, _ = send_trial(api, within_s=TRIAL_S)
    install_channels(api, {MESSAGE_VARIABLE: address_of(mailbox)})
    assert not message.arrived
    assert "Connection error" in message.found
    assert "sesame" not in message.found


def test_installing_again_changes_addresses_and_switches_nothing_on(
    installed: str, webhook: WebhookReceiver
) -> None:
    with get_client(sync_client=True) as client:
        (crash,) = client.read_automations_by_name("kawan-usaha: notice of crash")
        client.pause_automation(crash.id)
        assert install_channels(installed, {WEBHOOK_VARIABLE: webhook.url}) == [
            "message",
            "webhook",
        ]
        names = [each.name for each in client.read_automations()]
        assert len(names) == len(set(names)) == len(notice_automations({}))
        (crash,) = client.read_automations_by_name("kawan-usaha: notice of crash")
        assert not crash.enabled
        client.resume_automation(crash.id)


def test_refused_model_is_told_of_with_the_figures_and_the_next_step(
    installed: str, built_home: Path, recipe: Recipe, mailbox: Mailbox, webhook: WebhookReceiver
) -> None:
    strict = recipe.evaluate.gate.model_copy(update={"max_perplexity_ratio": 1e-6})
    evaluate = recipe.evaluate.model_copy(update={"gate": strict})
    state = rebuild(recipe.model_copy(update={"evaluate": evaluate}), return_state=True)
    assert state.is_failed()
    mail = mailbox.text("kawan-usaha: tiny: refused by its gate")
    assert "is not published or served" in mail
    assert "--override-gate" in mail
    told = webhook.body("tiny: refused by its gate")
    assert told["event"] == "kawan-usaha.gate.refused"
    assert told["facts"]["error"] == "GateFailed"
    assert told["text"].startswith("tiny: refused by its gate\nThe model is not published")


def test_success_is_told_of_once_and_nothing_new_is_not(
    installed: str, built_home: Path, recipe: Recipe, mailbox: Mailbox, webhook: WebhookReceiver
) -> None:
    named = recipe.model_copy(update={"name": "warung"})
    for _ in range(2):
        assert rebuild(named, return_state=True).is_completed()
    told = webhook.body("warung: rebuilt")
    assert told["facts"] == {
        "done": ["publish"],
        "passed": True,
        "published": told["facts"]["published"],
        "served": None,
    }
    assert "Gate passed" in mailbox.text("kawan-usaha: warung: rebuilt")
    send_trial(installed, within_s=TRIAL_S)  # the server sends in the order of what has happened
    assert mailbox.subjects().count("kawan-usaha: warung: rebuilt") == 1
    assert not any("nothing new" in subject for subject in mailbox.subjects())


def test_stage_that_another_run_has_called_leaves_success_to_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Notice] = []
    monkeypatch.setattr("flows.rebuild.end_states.notify", told.append)

    @flow
    def stage() -> None:
        completed_state(RunSummary(Recipe(base=Base(repo="a/b")), ()))

    @flow
    def calling() -> None:
        stage()

    calling()
    assert told == []
    stage()
    assert len(told) == 1


@pytest.mark.parametrize(
    ("last", "happening"),
    [
        (Completed(message="Done: merge."), NoticeEvent.SUCCEEDED),
        (Failed(message="Too bad."), None),  # which the run of the stage has told
    ],
)
def test_rebuild_across_machines_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, last: State[None], happening: NoticeEvent | None
) -> None:
    told: list[Notice] = []
    cached: State[None] = Completed(message="Nothing new: every stage was cached.")
    monkeypatch.setattr("flows.across.notify", told.append)
    monkeypatch.setattr("flows.across._pinned_overrides", lambda *_: [])
    monkeypatch.setattr("flows.across._stage_run", lambda *_: None)
    monkeypatch.setattr(
        "flows.across._await_end", lambda _, stage, __: last if stage == "merge" else cached
    )
    state = rebuild_across("kawan-usaha-13b", until="merge", return_state=True)
    assert state.type is last.type
    assert [each.what for each in told] == ([happening] if happening else [])
    assert str(last.message) in str(state.message)


def test_failure_is_told_of_in_the_words_of_its_error_with_the_run_that_can_be_retried(
    installed: str, home: Path, mailbox: Mailbox, webhook: WebhookReceiver
) -> None:
    file = home / "absent.yaml"
    home.mkdir()
    file.write_text(f"name: absent\nbase: {{directory: {home / 'absent'}}}\n")
    state = rebuild_recipe(str(file), return_state=True)
    assert state.is_failed()
    outer = f"/runs/flow-run/{state.state_details.flow_run_id}"
    assert webhook.body("absent: the rebuild failed")["run"].endswith(outer)
    mail = mailbox.text("kawan-usaha: absent: the rebuild failed")
    assert str(home / "absent") in mail
    assert "Traceback" not in mail


def test_crash_is_told_of_once_with_its_cause_for_runs_of_this_project_only(
    installed: str, mailbox: Mailbox, webhook: WebhookReceiver
) -> None:
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("rebuild-recipe")
        for name, tags in (("others", ["else"]), ("ours", ["kawan-usaha", "demo"])):
            deployment = client.create_deployment(flow_id, name=name, tags=tags)
            run = client.create_flow_run_from_deployment(deployment, name=f"of {name}")
            for _ in range(2):  # Prefect reports the same crash more than once
                died = Crashed(message="No heartbeat for 120 s.")
                client.set_flow_run_state(run.id, died, force=True)
    mail = mailbox.text("kawan-usaha: of ours: the run crashed")
    assert mail.startswith("No heartbeat for 120 s.\nWhat was finished is kept.")
    assert f"attempt 0 of 4: the run is restarted after {RESTART_AFTER_S} s." in mail
    assert webhook.body("of ours: the run crashed")["about"] == "of ours"
    send_trial(installed, within_s=TRIAL_S)
    assert mailbox.subjects().count("kawan-usaha: of ours: the run crashed") == 1
    assert not any("of others" in subject for subject in mailbox.subjects())


def test_service_that_was_down_is_told_of_when_it_serves_again(
    installed: str, mailbox: Mailbox
) -> None:
    seen(Looked("warung", "healed", "gone: no process; it was started again"))
    mail = mailbox.text("kawan-usaha: warung: was down, serves again")
    assert mail.startswith("gone: no process; it was started again")


@pytest.mark.slow
def test_service_that_stays_down_is_told_of_once(
    installed: str, mailbox: Mailbox, webhook: WebhookReceiver
) -> None:
    for _ in range(2):
        seen(Looked("kedai", "down", "gone: no process"), Looked("toko", "down", "gone"))
    webhook.body("toko: is down")
    send_trial(installed, within_s=TRIAL_S)
    told = [body["title"] for body in webhook.bodies if body["event"].endswith("service.down")]
    assert sorted(told) == ["kedai: is down", "toko: is down"]


def test_what_happens_while_the_server_is_away_is_told_of_when_it_is_back(
    installed: str, mailbox: Mailbox
) -> None:
    port = urlsplit(installed).port
    assert port is not None
    relay = Relay(port)

    @flow(name="serving-watch")
    def watch() -> float:
        relay.away()
        began = time.monotonic()
        for notice in service_notices([Looked("lapak", "healed", "gone; it was started again")]):
            notify(notice)
        took_s = time.monotonic() - began
        relay.back()
        flush(BLOCKED_S)
        return took_s

    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{relay.port}/api"}):
        assert watch() < BLOCKED_S
        mailbox.mail("kawan-usaha: lapak: was down, serves again")
