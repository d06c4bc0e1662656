"""Machines that share only a remote store: one is lost in its work, and another one goes on.

Real all the way: a Prefect server with the deployments of prefect.yaml, a worker for each machine
with a home and locks of its own, an S3 server and a Hub. A machine is lost by SIGKILL of everything
that its worker has started, and by the loss of its home.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import psutil
import pytest
import yaml
from huggingface_hub import HfApi
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Scheduled

from flows.installation import install_on_server
from flows.prefect_server.local_prefect import LocalPrefect
from flows.prefect_server.start_stop import start_prefect, stop_prefect
from tasks.core.demo.hub.server import running_hub
from tasks.core.home import PROJECT
from tasks.core.process.ports import free_port
from tasks.core.recipe import (
    ActivationEdit,
    Base,
    Delta,
    Edit,
    Evaluate,
    Finetune,
    Gate,
    Publish,
    Recipe,
)
from tasks.core.store import Artifact, Store
from tasks.core.training.checkpoints.directory import MARKER
from tests.models import WORDS, tiny_delta, tiny_llama
from tests.s3_server import KEYS, make_bucket, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

HANG_S = 3600
POLL_S = 0.5
STEPS = 200


@dataclass
class World:
    """What the machines have in common."""

    root: Path
    client: SyncPrefectClient
    environment: dict[str, str]

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    def machine(self, name: str, pool: str) -> "Machine":
        return Machine(self, name, pool)

    def call(self, deployment: str, **parameters: object) -> FlowRun:
        given = {"recipe": str(self.recipe), **parameters}
        return cast("FlowRun", run_deployment(deployment, parameters=given, timeout=0))

    def wait(self, run: FlowRun, until: Callable[[FlowRun], bool]) -> FlowRun:
        deadline = time.monotonic() + HANG_S
        while not until(now := self.client.read_flow_run(run.id)):
            assert time.monotonic() < deadline, now.state
            time.sleep(POLL_S)
        return now

    def completed(self, run: FlowRun) -> FlowRun:
        ended = self.wait(run, is_over)
        assert ended.state is not None
        assert ended.state.is_completed(), ended.state.message
        return ended

    def children(self, run: FlowRun) -> list[FlowRun]:
        of_run = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
        found = self.client.read_flow_runs(flow_run_filter=of_run)
        return sorted(found, key=lambda child: str(child.created))

    def stages_done(self, run: FlowRun) -> dict[str, str]:
        """Return the last state of each task of a run, by the first word of its name."""
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        tasks = self.client.read_task_runs(flow_run_filter=of_run)
        tasks.sort(key=lambda task: str(task.start_time))
        return {task.name.split()[0]: str(task.state_name) for task in tasks}


@dataclass
class Machine:
    """A worker with a home of its own, whose runs have nothing of any checkout but the code."""

    world: World
    name: str
    pool: str
    worker: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def root(self) -> Path:
        return self.world.root / self.name

    @property
    def store(self) -> Store:
        return Store(self.root / "home")

    def __enter__(self) -> "Machine":
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)
        own = {
            "KAWAN_USAHA_HOME": str(self.root / "home"),
            "KAWAN_USAHA_LOCKS": str(self.root / "locks"),
            "PREFECT_HOME": str(self.root / "prefect"),
            "TMPDIR": str(self.root / "tmp"),
        }
        with (self.root / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool],
                cwd=self.root,
                env={**self.world.environment, **own},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the worker, its runs, and their children, wherever they have put themselves."""
        assert self.worker is not None
        with suppress(psutil.NoSuchProcess):
            worker = psutil.Process(self.worker.pid)
            processes = [*worker.children(recursive=True), worker]
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(processes, timeout=HANG_S)
        self.worker.wait()

    def lose(self) -> None:
        self.__exit__()
        shutil.rmtree(self.root)

    def artifacts(self) -> dict[str, Artifact]:
        return {str(artifact.key): artifact for artifact in self.store.artifacts()}


def is_over(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def tiny_recipe(root: Path) -> Recipe:
    return Recipe(
        name="machines",
        base=Base(repo="kawan-usaha/base"),
        delta=Delta(repo="kawan-usaha/delta"),
        edit=Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),)),
        finetune=Finetune(
            data=root / "conversation.json",
            device="cpu",
            precision="float32",
            micro_batch_size=1,
            gradient_accumulation_steps=2,
            max_length_tokens=512,
            zero_stage=2,
            epochs=STEPS // 4,
            save_steps=10,
            save_total_limit=2,
        ),
        evaluate=Evaluate(
            conversations=root / "held_out.json",
            prompts=root / "prompts.json",
            max_new_tokens=4,
            device="cpu",
            gate=Gate(max_perplexity_ratio=1000.0),
        ),
        publish=Publish(target=str(root / "published"), license="apache-2.0"),
    )


def conversation(id_: str, question: str, answer: str) -> dict[str, object]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": id_, "conversations": turns}


def make_sources(root: Path, hub: str, token: str) -> None:
    """Put base and delta on the Hub, and data and recipe where every machine can read them."""
    tiny_llama(root / "base", seed=1)
    tiny_delta(root / "base", tiny_llama(root / "target", seed=2), root / "delta")
    client = HfApi(endpoint=hub, token=token)
    for name in ("base", "delta"):
        client.create_repo(f"kawan-usaha/{name}")
        client.upload_folder(repo_id=f"kawan-usaha/{name}", folder_path=root / name)
    records = [
        conversation(str(i), " ".join(WORDS[i : i + 3]), " ".join(WORDS[: i + 1])) for i in range(8)
    ]
    (root / "conversation.json").write_text(json.dumps(records))
    (root / "held_out.json").write_text(json.dumps([conversation("a", "Halo?", "Halo juga.")]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))
    recipe = tiny_recipe(root).model_dump(mode="json", exclude_unset=True)
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("machines")
    server = LocalPrefect(root / "server", ())
    say: Callable[[str], None] = lambda _: None  # noqa: E731
    with running_hub(root / "hub") as hub, s3_server() as s3:
        make_sources(root, hub.url, hub.token)
        make_bucket(s3, "kawan")
        try:
            put = partial(install_on_server, log=root / "deploy.log", say=say)
            address = start_prefect(server, free_port(), install=put, say=say)
            plain = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
            environment = {
                **plain,
                **KEYS,
                "AWS_ENDPOINT_URL": s3,
                "HF_ENDPOINT": hub.url,
                "HF_TOKEN": hub.token,
                "KAWAN_USAHA_REMOTE": "s3://kawan/machines",
                "PREFECT_API_URL": address,
                "PREFECT_WORKER_QUERY_SECONDS": "2",
                "PYTHONPATH": str(PROJECT),
            }
            settings = temporary_settings({PREFECT_API_URL: address})
            with settings, get_client(sync_client=True) as client:
                yield World(root, client, environment)
        finally:
            stop_prefect(server, say=say)


def checkpoints(machine: Machine) -> list[Path]:
    staging = machine.root / "home" / "store" / ".staging"
    return list(staging.glob(f"finetune-*/**/checkpoint-*/{MARKER}"))


def test_a_machine_is_lost_in_its_work_and_another_goes_on_from_what_it_has_handed_over(
    world: World,
) -> None:
    with world.machine("first", "kawan-cpu") as first:
        world.completed(world.call("rebuild-recipe/stage-merge"))
    merged = first.artifacts()
    assert sorted(name.split("-")[0] for name in merged) == ["download", "download", "merge"]

    lost = world.machine("second", "kawan-gpu")
    with lost:
        run = world.call("rebuild-recipe/stage-finetune", from_stage="edit")
        world.wait(run, lambda now: is_over(now) or len(checkpoints(lost)) > 1)
        assert not is_over(world.client.read_flow_run(run.id))
        made = lost.artifacts()
    assert {name: made[name].manifest for name in merged} == {
        name: artifact.manifest for name, artifact in merged.items()
    }
    assert sorted(name.split("-")[0] for name in made.keys() - merged) == ["edit", "prepare"]
    lost.lose()

    # What Retry in the UI does, and the automation for crashed runs.
    again = Scheduled(name="AwaitingRetry")
    world.client.set_flow_run_state(run.id, again, force=True)
    with world.machine("third", "kawan-gpu") as third:
        world.completed(run)
    there = third.artifacts()
    assert {name: there[name].manifest for name in made} == {
        name: artifact.manifest for name, artifact in made.items()
    }
    assert world.stages_done(run) == {
        "plan": "Completed",
        **dict.fromkeys(("download", "merge", "edit", "prepare"), "Cached"),
        "finetune": "Completed",
    }
    (adapter,) = (there[name] for name in there.keys() - made)
    assert adapter.manifest.facts["steps"] == STEPS


def test_each_stage_of_one_rebuild_runs_in_its_own_pool_at_the_same_commits(
    world: World,
) -> None:
    with world.machine("fourth", "kawan-cpu"), world.machine("fifth", "kawan-gpu"):
        run = world.completed(world.call("rebuild-across/across", until="finetune"))
    children = world.children(run)
    stages = ["download", "merge", "edit", "prepare", "finetune"]
    assert [child.parameters["until"] for child in children] == stages
    assert [child.parameters["from_stage"] for child in children] == stages
    pools = [child.work_pool_name for child in children]
    assert pools == ["kawan-cpu"] * 4 + ["kawan-gpu"]
    (overrides,) = {tuple(child.parameters["overrides"]) for child in children}
    assert [each.partition("=")[0] for each in overrides] == ["base.revision", "delta.revision"]


def test_cancelling_a_rebuild_cancels_the_stage_at_work_on_the_other_machine(
    world: World,
) -> None:
    longer = ("delta=", "edit=", f"finetune.epochs={25 * STEPS}")
    with world.machine("sixth", "kawan-cpu"), world.machine("seventh", "kawan-gpu") as trains:
        run = world.call("rebuild-across/across", overrides=longer)
        world.wait(run, lambda now: is_over(now) or bool(checkpoints(trains)))
        stages = world.children(run)
        asked = [child.parameters["until"] for child in stages]
        assert asked == ["download", "prepare", "finetune"]
        world.client.set_flow_run_state(run.id, Cancelling())
        for each in (run, stages[-1]):
            ended = world.wait(each, is_over)
            assert ended.state is not None
            assert ended.state.is_cancelled(), ended.state
