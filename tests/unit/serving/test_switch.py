"""One model takes over from another: whoever asks meanwhile notices nothing.

The engines are preforked, so that they are asked while they are switched, not while they import;
real ones start in test_served.py and, killed, again in test_watch.py.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tasks.core.errors import EditLost, RecipeError
from tasks.core.files.locks import holders
from tasks.core.recipe import Deploy
from tasks.core.serving.launch.deployment import deploy, rollback
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.launch.steps import Steps
from tasks.core.serving.observe.status import status
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.files import read_deployment, read_previous, used_builds
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tests.asking import Asking
from tests.models import tiny_llama
from tests.unit.serving.models import reporting_llama

NAME = "kawan"


@dataclass(frozen=True)
class Place:
    """A home in which two models lie, and the settings that both are served with."""

    home: Path
    one: Path
    two: Path
    settings: Deploy

    def deploy(self, model: Path, build: str, **changes: object) -> Deployment:
        settings = self.settings.model_copy(update=changes.pop("settings", {}))
        more = {"expected_edit": None, "template": "vicuna_v1.1", **changes}
        return deploy(model, settings, name=NAME, home=self.home, build=build, **more)

    @property
    def state(self):
        return state_directory(self.home, NAME)

    def other(self, serving: Deployment) -> tuple[Path, str]:
        """The model that is not served, with its build."""
        return (self.two, "two") if serving.build == "one" else (self.one, "one")


@pytest.fixture(scope="module")
def place(tmp_path_factory, serving_home, settings, preforked_engines) -> Iterator[Place]:
    models = tmp_path_factory.mktemp("models")
    one, two = (tiny_llama(models / str(seed), layers=2, seed=seed) for seed in (1, 2))
    yield Place(serving_home, one, two, settings(drain_s=600))
    stop(serving_home, NAME)


@pytest.fixture
def serving_one(place) -> Deployment:
    return place.deploy(place.one, "one")


@pytest.fixture
def serving(place) -> Deployment:
    """Whichever of the two models is served already: to switch takes half a minute."""
    return read_deployment(place.state) or place.deploy(place.one, "one")


def answer(deployment: Deployment) -> str:
    with Asking(deployment.url, "Kawan-Usaha", clients=1) as asking:
        asking.wait_for(1)
    return asking.outcomes[0].text


def roles(deployment: Deployment) -> set[str]:
    return {own.role for own in own_processes(deployment.state)}


def test_a_switch_under_load_loses_no_request_and_no_token(place, serving_one):
    before = answer(serving_one)
    with Asking(serving_one.url, "Kawan-Usaha") as asking:
        asking.wait_for(8)
        two = place.deploy(place.two, "two")
        served_by_both = len(asking.outcomes) - 8
    after = answer(two)
    assert before != after
    assert served_by_both > 8
    assert set(asking.fates()) == {"whole"}, asking.failed()
    assert asking.texts() == {before, after}
    assert (two.switched.how, two.switched.gap_s, two.switched.cut_off) == ("side-by-side", 0, 0)
    assert two.slot != serving_one.slot
    assert serving_one.slot not in roles(two)
    assert used_builds(place.home) == {place.two.name}


@pytest.mark.slow
def test_the_last_requests_are_answered_by_both_models(place, serving_one):
    old = answer(serving_one)
    two = place.deploy(place.two, "two")
    shadow = two.switched.shadow[-1]
    assert "apa kabar usaha?" in shadow.asked
    assert shadow.earlier == old
    assert shadow.new == answer(two)


@pytest.mark.slow
def test_rollback_serves_again_what_served_before(place, serving_one):
    old = answer(serving_one)
    place.deploy(place.two, "two")
    back = rollback(place.home, NAME)
    assert back.build == "one"
    assert answer(back) == old
    assert read_previous(place.state).build == "two"


def test_a_model_that_lost_its_edit_never_serves_and_the_old_one_never_stops(
    place, serving, tmp_path
):
    model = reporting_llama(tmp_path / "model")
    promised = {"activations": ["silu", "relu", "gelu"]}
    with (
        Asking(serving.url, "Kawan-Usaha", clients=4) as asking,
        pytest.raises(EditLost, match="The earlier deployment keeps serving"),
    ):
        place.deploy(model, "lost", expected_edit=promised)
    assert set(asking.fates()) == {"whole"}
    assert asking.texts() == {answer(serving)}
    (found,) = status(place.home)
    assert (found.health, found.deployment.build) == ("healthy", serving.build)
    assert any("relu" in log.read_text() for log in place.state.failed_logs.iterdir())


def test_a_mistyped_template_ends_nothing(place, serving):
    with pytest.raises(RecipeError, match="no such conversation template"):
        place.deploy(place.two, "two", template="vicuna_v9")
    assert [each.health for each in status(place.home)] == ["healthy"]


def test_replacing_tells_clients_to_come_back_and_measures_the_gap(place, serving):
    with Asking(serving.url, "Kawan-Usaha", clients=4) as asking:
        other = place.deploy(*place.other(serving), settings={"switch": "replace"})
    assert other.switched.how == "replace"
    assert other.switched.gap_s > 0
    assert set(asking.fates()) <= {"whole", "come back"}, asking.failed()
    told = next(each.text for each in asking.outcomes if each.fate == "come back")
    assert "being replaced" in json.loads(told)["error"]["message"]


@pytest.mark.slow
def test_when_the_replacing_model_fails_the_old_one_is_started_again(place, serving_one, tmp_path):
    model = reporting_llama(tmp_path / "model")
    promised = {"activations": ["silu", "relu", "gelu"]}
    with pytest.raises(EditLost, match="The earlier deployment serves again"):
        place.deploy(model, "lost", expected_edit=promised, settings={"switch": "replace"})
    (found,) = status(place.home)
    assert (found.health, found.deployment.build) == ("healthy", "one")


@pytest.mark.slow
def test_replacing_that_is_interrupted_before_the_old_one_ended_leaves_it_serving(
    place, serving_one, monkeypatch
):
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Steps, "drain", interrupt)
    with pytest.raises(KeyboardInterrupt):
        place.deploy(place.two, "two", settings={"switch": "replace"})
    (found,) = status(place.home)
    assert (found.health, found.deployment.build) == ("healthy", "one")


@pytest.mark.slow
def test_other_limits_start_the_gateway_anew_and_lose_nobody(place, serving_one):
    engine = {o.role: o.process.pid for o in own_processes(place.state.root)}[serving_one.slot]
    limits = serving_one.settings.gateway.model_copy(update={"max_queued": 5})
    with Asking(serving_one.url, "Kawan-Usaha") as asking:
        same = place.deploy(place.one, "one", settings={"gateway": limits})
    assert set(asking.fates()) == {"whole"}, asking.failed()
    assert {o.role: o.process.pid for o in own_processes(place.state.root)}[same.slot] == engine
    assert same.settings.gateway.max_queued == 5


def test_a_gateway_that_is_killed_is_replaced_by_the_one_that_stands_by(place, serving):
    by_role = {own.role: own.process for own in own_processes(place.state.root)}
    with Asking(serving.url, "Kawan-Usaha") as asking:
        asking.wait_for(16)
        answering = holder_of_gateway(place)
        by_role[answering].kill()
        asking.wait_for(len(asking.outcomes) + 32)
    fates = asking.fates()
    assert set(fates) <= {"whole", "cut off"}, asking.failed()
    assert fates["cut off"] <= 8


def holder_of_gateway(place: Place) -> str:
    (holder,) = holders(place.state.gateway_lock)
    environ = psutil.Process(holder.pid).environ()
    return environ["SUPERVISOR_PROCESS_NAME"]


def test_an_engine_that_is_killed_proves_itself_again_and_clients_are_told_meanwhile(
    place, serving
):
    by_role = {own.role: own.process for own in own_processes(place.state.root)}
    with Asking(serving.url, "Kawan-Usaha", clients=4) as asking:
        asking.wait_for(4)
        by_role[serving.slot].kill()
        asking.wait_for(1, "come back")
        asking.wait_for(asking.fates()["whole"] + 8, "whole")
    assert set(asking.fates()) <= {"whole", "come back", "cut off"}, asking.failed()


def test_nothing_is_left_of_it(place, serving):
    stop(place.home, NAME)
    assert own_processes(place.state.root) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{serving.url}/health", trust_env=False)
