"""A deployment under load: twenty switches lose nothing, and random kills end in health.

How long the kills go on: CHAOS_S seconds, five minutes unless the environment says otherwise. What
became of the requests stands in the file of `--junitxml`.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tasks.core.recipe import Deploy
from tasks.core.recipe.deploy import EngineName
from tasks.core.serving.launch.deployment import deploy
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.observe.status import status
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tests.asking import Asking
from tests.models import tiny_llama
from tests.unit.serving.conftest import free_port

pytestmark = pytest.mark.slow
NAME = "kawan"
CHAOS_S = float(os.environ.get("CHAOS_S", "300"))
GIVE_UP_S = 1800


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    stop(tmp_path / "home", NAME)


def serve(model: Path, home: Path, engine: EngineName, port: int) -> Deployment:
    settings = Deploy.model_validate(
        {
            "engine": engine,
            "device": "cpu",
            "load_8bit": False,
            "drain_s": 600,
            "gateway": {"port": port},
        }
    )
    build, template = model.name, "vicuna_v1.1"
    return deploy(model, settings, name=NAME, template=template, home=home, build=build)


@pytest.mark.parametrize("engine", ["fastchat", "transformers"])
def test_twenty_switches_under_load_lose_no_request_and_no_token(
    tmp_path: Path,
    home: Path,
    engine: EngineName,
    record_property: Callable[[str, object], None],
) -> None:
    models = [tiny_llama(tmp_path / str(seed), layers=1, seed=seed) for seed in (1, 2)]
    port = free_port()
    first = serve(models[0], home, engine, port)
    with Asking(first.url, "Kawan-Usaha") as asking:
        for number in range(1, 21):
            switched = serve(models[number % 2], home, engine, port).switched
            assert switched is not None
            assert (switched.how, switched.cut_off) == ("side-by-side", 0)
    record_property("requests", str(asking.fates()))
    assert set(asking.fates()) == {"whole"}, [o for o in asking.outcomes if o.fate != "whole"][:5]
    assert len(asking.texts()) == 2


@pytest.mark.parametrize("engine", ["fastchat", "transformers"])
def test_random_kills_under_load_end_in_health_and_every_failure_is_clean(
    tmp_path: Path,
    home: Path,
    engine: EngineName,
    record_property: Callable[[str, object], None],
) -> None:
    model = tiny_llama(tmp_path / "one", layers=1)
    deployment = serve(model, home, engine, free_port())
    state, chance = state_directory(home, NAME), random.Random(7)  # noqa: S311 - repeatable
    killed = []
    with Asking(deployment.url, "Kawan-Usaha") as asking:
        asking.wait_for(8, "whole")
        end = time.monotonic() + CHAOS_S
        while time.monotonic() < end:
            roles = {own.role: own.process for own in own_processes(state.root)}
            if roles:  # all of it is started anew, and for a moment there is nothing
                role = chance.choice(sorted(roles))
                with suppress(psutil.NoSuchProcess):
                    roles[role].kill()
                    killed.append(role)
            time.sleep(chance.uniform(5, 20))
        deadline = time.monotonic() + GIVE_UP_S
        while [each.health for each in status(home)] != ["healthy"]:
            assert time.monotonic() < deadline, (killed, status(home))
            time.sleep(1)
        asking.wait_for(asking.fates()["whole"] + 8, "whole")
    record_property("requests", str(asking.fates()))
    record_property("killed", " ".join(killed))
    assert set(asking.fates()) <= {"whole", "come back", "refused", "cut off"}, asking.fates()
    assert len(asking.texts()) == 1
