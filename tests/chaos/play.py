"""The play: an undisturbed build to compare with, rounds of builds that are struck, the end."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.prefect_server.start_stop import stop_prefect
from tasks.core.home import PROJECT
from tasks.core.process.ports import free_port
from tasks.core.serving.client.chat import chat
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.files import read_deployment
from tasks.core.store.manifest import read_manifest
from tests.chaos.ending import (
    left_in_tmp,
    require_no_temporary,
    require_nothing_left,
    require_only_logs,
)
from tests.chaos.operator import Operator
from tests.chaos.plan import Plan
from tests.chaos.struck import Struck
from tests.chaos.victims import Stage
from tests.chaos.watching import Watched
from tests.hub_faults import Slow
from tests.prefect_command import Prefect
from tests.recovery.machine import SLOW_DISK, Machine
from tests.tiny_world import World, tiny_world

NAME = "chaos"
_MODELS = ("download", "merge", "edit", "prepare", "finetune", "fuse")
_MEASURED = ("tokens_per_s", "peak_memory_bytes", "wall_s", "generated_per_s")
_SERVED_S = 5.0
_PIECE_S, _ALWAYS = 0.5, 1_000_000
"""How slow the Hub is: else a download of the tiny model is over before it can be struck."""
_ENVIRONMENT = {
    "HF_HUB_DISABLE_XET": "1",  # the embedded Hub speaks LFS
    "OMP_NUM_THREADS": "1",  # sums of several threads can differ in their last bit
    "PYTHONPATH": f"{PROJECT}:{SLOW_DISK}",  # or a merge is over before it can be struck
    "SLOW_DISK_S": "0.1",
    "PREFECT_WORKER_QUERY_SECONDS": "2",  # a run that is scheduled waits for its worker's next look
}


@dataclass(frozen=True)
class Result:
    """What a build came to: the content of each artifact, what is published, what it answers."""

    contents: dict[str, str]
    figures: Any
    published: dict[str, bytes]
    answer: str


@dataclass
class Play:
    """A world with its recipe, the undisturbed result, and a machine that is struck."""

    root: Path
    world: World
    recipe: Path
    locks: Path

    @property
    def published(self) -> Path:
        """Where the recipe publishes to: one place for all, for the card names it."""
        return self.root / "published"

    @property
    def port(self) -> int:
        """The gateway's port."""
        return int(yaml.safe_load(self.recipe.read_text())["deploy"]["gateway"]["port"])

    def undisturbed(self) -> tuple[Result, dict[Stage, float]]:
        """Return what an undisturbed build comes to, and how long its stages take."""
        (self.root / "undisturbed").mkdir()
        prefect = Prefect(self.root / "undisturbed", {**self.world.env, **_ENVIRONMENT})
        began = time.monotonic()
        ran = prefect.kawan_usaha("rebuild", str(self.recipe))
        assert ran.returncode == 0, ran.stdout + ran.stderr
        took_s = time.monotonic() - began
        result, stages = self.result(prefect.at.home), _took_s(prefect.at.home, took_s)
        self.clear(prefect.at.home)
        assert not left_in_tmp(self.root / "undisturbed")
        return result, stages

    def result(self, home: Path) -> Result:
        """Return what the build in a home has come to."""
        manifests = [read_manifest(path) for path in (home / "store").glob("[a-z]*-*")]
        contents = {
            str(made.stage_key): made.content_digest
            for made in manifests
            if made is not None and made.stage in _MODELS
        }
        (measured,) = (home / "store").glob("evaluate-*")
        served = read_deployment(state_directory(home, NAME))
        assert served is not None
        question = [{"role": "user", "content": "Apa itu NIB?"}]
        answer = chat(
            served.base_url,
            "Kawan-Usaha",
            question,
            stream=False,
            max_tokens=24,
            temperature=0,
        )
        return Result(
            contents,
            _without_measures(json.loads((measured / "evaluation.json").read_bytes())),
            {
                str(path.relative_to(self.published)): path.read_bytes()
                for path in sorted(self.published.rglob("*"))
                if path.is_file()
            },
            "".join(answer),
        )

    def clear(self, home: Path) -> None:
        """End what serves, and forget what was built and published."""
        stop(home, NAME)
        for path in (home / "store", home / "runs", self.published):
            shutil.rmtree(path)

    def round(self, machine: Machine, plan: Plan, operator: Operator) -> Result:
        """Return the result of one build that is struck again and again, and looked at."""
        state = state_directory(machine.home, NAME)
        struck = Struck(machine, plan, operator, state)
        with Watched(machine.home, self.published, state) as watched:
            operator.start()
            struck.until_completed(watched)
            struck.what_serves(watched)
            watched.require_whole()
            operator.rest()
        _require_nothing_twice(machine, operator)
        result = self.result(machine.home)
        stop(machine.home, NAME)
        require_only_logs(state.root)
        require_no_temporary(machine.home, besides=machine.home / "prefect")
        return result


@contextmanager
def play(root: Path) -> Iterator[Play]:
    """Yield a world whose recipe goes from the Hub to a gateway, and to a directory."""
    locks = root / "locks"
    os.environ["KAWAN_USAHA_LOCKS"] = str(locks)
    (root / "world").mkdir()
    with tiny_world(root / "world") as world:
        world.faults.add(Slow(_PIECE_S), "resolve/.*safetensors", times=_ALWAYS)
        recipe = world.recipe(
            root / f"{NAME}.yaml",
            edit={"activations": [{"layers": [-1], "activation": "gelu"}]},
            finetune={
                "micro_batch_size": 2,
                "max_steps": 60,
                "save_steps": 5,
                "logging_steps": 1,
            },
            publish={"repo": None, "target": str(root / "published")},
        )
        yield Play(root, world, recipe, locks)


@contextmanager
def struck_machine(made: Play) -> Iterator[Machine]:
    """Yield a machine with Prefect up; in the end all is stopped, and nothing is left."""
    (made.root / "struck").mkdir()
    prefect = Prefect(made.root / "struck", {**made.world.env, **_ENVIRONMENT})
    machine = Machine(made.world, prefect, made.recipe, free_port())
    state = state_directory(prefect.at.home, NAME)
    try:
        machine.up()
        yield machine
        if state.root.exists():
            assert prefect.kawan_usaha("stop", NAME).returncode == 0
        assert prefect("down").returncode == 0
    except BaseException:
        stop_prefect(prefect.at, say=lambda _: None)
        if state.root.exists():
            stop(prefect.at.home, NAME)
        raise
    ports = {"gateway": made.port, "server": machine.port}
    require_nothing_left(made.root / "struck", ports, made.locks)


def _took_s(home: Path, all_s: float) -> dict[Stage, float]:
    """Return how long each stage took undisturbed; of those that keep no record, a fair guess."""
    took: dict[Stage, float] = {"between": all_s / 8, "publish": 0.3, "served": _SERVED_S}
    for path in (home / "store").glob("[a-z]*-*"):
        made = read_manifest(path)
        if made is not None and made.stage in (*_MODELS, "evaluate"):
            stage: Any = made.stage
            took[stage] = max(made.wall_s, took.get(stage, 0.0))
    took["deploy"] = max(10.0, all_s - sum(took.values()))
    return took


def _without_measures(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_measures(v) for k, v in value.items() if k not in _MEASURED}
    if isinstance(value, list):
        return [_without_measures(each) for each in value]
    return value


def _require_nothing_twice(machine: Machine, operator: Operator) -> None:
    """Raise AssertionError when the server has on record that an artifact was made twice."""
    made: dict[str, int] = {}
    body = {
        "flow_runs": {"id": {"any_": [str(run) for run in operator.runs]}},
        "task_runs": {"state": {"name": {"any_": ["Completed"]}}},
    }
    with machine.client() as client:
        found = client.request("POST", "/task_runs/filter", json=body).json()
    for task in found:
        message = str((task.get("state") or {}).get("message") or "")
        artifact, _, how = message.partition(": ")
        stage = artifact.partition("-")[0]
        if how.startswith("done") and task["name"].split()[0] in (stage, "download"):
            made[artifact] = made.get(artifact, 0) + 1
    twice = {artifact: count for artifact, count in made.items() if count > 1}
    assert not twice, f"made more than once: {twice}"
