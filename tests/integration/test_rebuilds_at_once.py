"""Rebuilds that are started at one moment in one home: what they have in common is made once."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tests.prefect_command import COMMAND
from tests.tiny_world import World, tiny_world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with tiny_world(tmp_path_factory.mktemp("world")) as found:
        yield found


def test_rebuilds_of_one_recipe_and_of_another_make_each_artifact_once(
    world: World, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    one, other = world.recipe(tmp_path / "one.yaml"), world.recipe(tmp_path / "other.yaml")
    env = {**world.env, "KAWAN_USAHA_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    started = []
    for number, recipe in enumerate((one, one, other)):
        argv = [COMMAND, "rebuild", str(recipe), "--until", "merge"]
        with (tmp_path / f"{number}.log").open("wb") as log:
            started.append(subprocess.Popen(argv, env=env, stdout=log, stderr=log))
    try:
        ends = [process.wait() for process in started]
    finally:
        for process in started:
            process.kill()
    logs = [(tmp_path / f"{number}.log").read_text()[-3000:] for number in range(3)]
    assert ends == [0, 0, 0], logs
    store = Store(home)
    stages = Counter(artifact.manifest.stage for artifact in store.artifacts())
    assert stages == {"download": 2, "merge": 1}, logs  # base and delta, once each
    assert [problems for problems in store.verify().values() if problems] == []
    assert store.contents()["staging"] == store.contents()["corrupt"] == []
    records = RunRecords(home)
    assert Counter(record.recipe for record in records.all()) == {"one": 2, "other": 1}
    assert records.unfinished() == []
    with store.unused():
        pass  # nobody has left a lock
