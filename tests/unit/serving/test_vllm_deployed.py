"""vLLM in a whole deployment: taken over from and by others, killed, and ended.

With `make vllm` and `make test-vllm`. The tests go on from where the one before left it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.promise import expected_report
from tasks.core.architecture.renew_edit_fingerprint import renew_fingerprint
from tasks.core.errors import ServingFailed
from tasks.core.files.locks import holders
from tasks.core.machine import devices
from tasks.core.recipe import ActivationEdit, Deploy, Edit
from tasks.core.serving.engines.vllm import Vllm
from tasks.core.serving.engines.vllm_environment import EXTRA_ARGUMENTS
from tasks.core.serving.launch.deployment import deploy
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.launch.ports import can_bind
from tasks.core.serving.observe.status import status
from tasks.core.serving.observe.watch import DeploymentWatch
from tasks.core.serving.state.directory import StateDirectory, state_directory
from tasks.core.serving.state.files import read_deployment
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tasks.core.serving.supervision.supervisord import Supervisor
from tests.asking import Asking
from tests.models import tiny_llama
from tests.unit.serving.gateway.world import until
from tests.vllm import NEEDS_VLLM

pytestmark = NEEDS_VLLM
NAME = "kawan"
START_S = 900.0
EDIT = Edit(activations=(ActivationEdit(layers=("all",), activation="gelu"),))


@dataclass(frozen=True)
class Place:
    """A home, two edited models with what they were edited from, and what both are served with."""

    home: Path
    models: Path
    settings: Deploy

    @property
    def state(self) -> StateDirectory:
        return state_directory(self.home, NAME)

    def serves(self, engine: str, model: str) -> Deployment:
        """Deploy it, or return it as it serves already."""
        settings = self.settings.model_copy(update={"engine": engine})
        edited = self.models / model
        return deploy(
            edited,
            settings,
            name=NAME,
            template="vicuna_v1.1",
            home=self.home,
            build=model,
            expected_edit=expected_report(edited),
        )

    def server(self, deployment: Deployment) -> psutil.Process:
        """Return the process that supervisord has started for the engine."""
        found = Supervisor(self.state.socket).processes()[deployment.slot]
        assert found.pid is not None
        return psutil.Process(found.pid)

    def killed(self, deployment: Deployment) -> None:
        """Kill the engine's server, and return once supervisord has a new one that can be asked."""
        self.server(deployment).kill()
        until(lambda: not can_be_proven(deployment))
        until(lambda: can_be_proven(deployment), within_s=START_S)


@pytest.fixture(scope="module")
def place(tmp_path_factory, serving_home, settings) -> Iterator[Place]:
    models = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two")):
        plain = tiny_llama(models / f"plain {name}", hidden=128, dtype="float32", seed=seed)
        (models / name).mkdir()
        edit_model(plain, EDIT, models / name)
        renew_fingerprint(models / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EXTRA_ARGUMENTS, "--enforce-eager")  # compiling takes two minutes more
        yield Place(serving_home, models, settings(drain_s=600))


def can_be_proven(deployment: Deployment) -> bool:
    try:
        Vllm().ready(deployment.engine_url)
    except ServingFailed:
        return False
    return True


def answer(deployment: Deployment) -> str:
    with Asking(deployment.url, "Kawan-Usaha", clients=1) as asking:
        asking.wait_for(1)
    assert asking.failed() == []
    return asking.outcomes[0].text


def refusal(deployment: Deployment) -> httpx.Response:
    """Return what a client is told that must not get an answer."""
    body = {"model": "Kawan-Usaha", "messages": [{"role": "user", "content": "apa"}]}
    told = httpx.post(
        f"{deployment.base_url}/chat/completions", json=body, timeout=120, trust_env=False
    )
    assert told.status_code == 503, told.text
    assert int(told.headers["retry-after"]) > 0
    return told


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("fastchat", "one"), ("vllm", "two")),
        (("transformers", "one"), ("vllm", "two")),
        (("vllm", "two"), ("vllm", "one")),
    ],
    ids=["from fastchat", "from transformers", "from vllm"],
)
def test_vllm_takes_over_under_load_and_loses_no_request_and_no_token(place, before, after):
    old = place.serves(*before)
    texts = {answer(old)}
    with Asking(old.url, "Kawan-Usaha", clients=4) as asking:
        new = place.serves(*after)
    texts.add(answer(new))
    assert len(texts) == 2
    assert set(asking.fates()) == {"whole"}, asking.failed()
    assert asking.texts() == texts
    assert (new.switched.how, new.switched.cut_off) == ("side-by-side", 0)
    assert {own.role for own in own_processes(place.state.root)} == {
        *("supervisord", "gateway-0", "gateway-1", "watch", new.slot),
    }
    assert [each.health for each in status(place.home)] == ["healthy"]


def test_a_killed_server_answers_nobody_until_the_watch_has_proven_it(place):
    deployment = place.serves("vllm", "one")
    said = answer(deployment)
    Supervisor(place.state.socket).stop("watch")
    watch = DeploymentWatch(place.state, lambda _: None)
    assert watch.look() == []
    place.killed(deployment)
    assert "has not proven its edit" in refusal(deployment).json()["error"]["message"]
    assert httpx.get(f"{deployment.url}/ready", trust_env=False).status_code == 503
    assert [each.kind for each in watch.look()] == ["died"]
    assert answer(deployment) == said


def test_a_server_that_comes_back_without_its_edit_never_answers(place):
    """As after a fault of the disk, or of the library that loads the model."""
    deployment = place.serves("vllm", "one")
    Supervisor(place.state.socket).stop("watch")
    watch = DeploymentWatch(place.state, lambda _: None)
    assert watch.look() == []
    link = place.state.slot(deployment.slot).model
    link.unlink()
    link.symlink_to(place.models / "plain one")
    place.killed(deployment)
    refusal(deployment)
    assert "edit-lost" in [each.kind for each in watch.look()]
    assert "lost its edit" in refusal(deployment).json()["error"]["message"]
    assert deployment.slot not in {own.role for own in own_processes(place.state.root)}
    assert read_deployment(place.state) is None


def test_nothing_is_left_of_it(place):
    deployment = place.serves("vllm", "one")
    port = place.settings.gateway.port
    stop(place.home, NAME)
    assert own_processes(place.state.root) == []
    assert can_bind("127.0.0.1", port)
    assert can_bind("127.0.0.1", deployment.engine_port)
    assert holders(devices.lock_directory() / "cpu.serving") == []
    assert status(place.home) == []
