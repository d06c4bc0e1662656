"""Stop means stop: `rebuild` ends in every stage, with everything that it has started."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from flows.lifecycle import rebuild_recipe
from tasks.core.files.locks import locked
from tasks.core.home import PROJECT
from tasks.core.machine.activity import running_work
from tasks.core.process.tree import environment_of
from tests.tiny_world import FEW, MANY, MANY_PROMPTS, Held, World, tiny_world

pytestmark = pytest.mark.slow  # the recipe is built before the first of them: two minutes

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
PREFECT = str(Path(sys.executable).with_name("prefect"))
SLOW_DISK = Path(__file__).with_name("slow_disk")
STAGES = ["download", "merge", "prepare", "finetune", "fuse", "evaluate", "publish", "deploy"]
STORED = STAGES[:6]
HANG_S = 240
"""Far above what anything here takes, also on a busy machine."""


def recipe(world: World, home: Path, stage: str) -> Path:
    """Write the recipe that works for long in the stage, and return its file."""
    data = MANY if stage == "prepare" else FEW
    steps = 100_000 if stage == "finetune" else 1
    return world.recipe(
        home / "stopped.yaml",
        finetune={"data": str(world.root / data), "max_steps": steps},
        evaluate={"prompts": str(world.root / MANY_PROMPTS)} if stage == "evaluate" else {},
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with a Prefect server, and a home in which a recipe was built to its evaluation."""
    with (
        tiny_world(tmp_path_factory.mktemp("stop")) as made,
        prefect_test_harness(server_startup_timeout=HANG_S),
    ):
        made.env["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        home = made.root / "home"
        home.mkdir()
        subprocess.run(
            [COMMAND, "rebuild", str(recipe(made, home, "")), "--until", "evaluate"],
            env={**made.env, "KAWAN_USAHA_HOME": str(home)},
            check=True,
        )
        yield made


def reached(world: World, home: Path, stage: str) -> Callable[[], bool]:
    """Return what tells whether the stage is at work."""
    staging = home / "store/.staging"
    if stage == "merge":  # which begins while its sources are still coming
        return lambda: {path.name.partition("-")[0] for path in staging.glob("*")} == {"merge"}
    if stage in STORED:
        return lambda: any(staging.glob(f"{stage}-*"))
    if stage == "deploy":
        # The engine has begun to load.
        return lambda: any((home / "serving").glob("stopped/logs/blue.log"))
    before = len(world.faults.requests("released.*commit", method="POST"))
    return lambda: len(world.faults.requests("released.*commit", method="POST")) > before


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def working_for(home: Path) -> list[psutil.Process]:
    """Return the live processes that have the home in their environment."""
    found = []
    for process in psutil.process_iter():
        mine = any(str(home) in value for value in environment_of(process).values())
        if mine and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.fixture
def home(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.root / "home", tmp_path / "home", symlinks=True))


def start(world: World, home: Path, stage: str) -> subprocess.Popen[str]:
    """Start a rebuild that finds everything done but the stage, and works in that for long."""
    if stage in STORED:
        for artifact in (home / "store").glob(f"{stage}-*"):
            shutil.rmtree(artifact)
    slow = {"PYTHONPATH": str(SLOW_DISK)} if stage in ("merge", "fuse") else {}
    if stage == "download":
        world.faults.add(Held(), "base/resolve/.*safetensors")
    if stage == "publish":
        world.faults.add(Held(), "released.*commit", method="POST")
    ignoring_interrupts = ["sh", "-c", 'trap "" INT; exec "$0" "$@"']
    return subprocess.Popen(
        [*ignoring_interrupts, COMMAND, "rebuild", str(recipe(world, home, stage))],
        env={**world.env, **slow, "KAWAN_USAHA_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stop(world: World, home: Path, stage: str, number: signal.Signals) -> str:
    """Stop a rebuild in a stage; return its output once nothing of it is alive."""
    process = start(world, home, stage)
    wait_for(reached(world, home, stage), process)
    if stage in ("finetune", "evaluate"):  # they work in processes of their own
        wait_for(lambda: bool(psutil.Process(process.pid).children()), process)
    if stage != "deploy":  # which takes a few seconds in all
        time.sleep(1)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    output, _ = process.communicate(timeout=HANG_S)
    expected = -number if number == signal.SIGKILL else 128 + number
    assert process.returncode == expected, output
    _, alive = psutil.wait_procs(family, timeout=HANG_S)
    assert not alive, output
    assert not working_for(home)
    return output


def require_all_locks_free(home: Path) -> None:
    assert running_work(home) == []
    for lock in [path for path in (home / "store/.locks").iterdir() if "@" not in path.name]:
        with locked(lock, "test"):
            pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_ends_the_stage_with_all_that_it_has_started(
    world: World, home: Path, stage: str, number: signal.Signals
) -> None:
    output = stop(world, home, stage, number)
    # On a machine that is too busy for it the stop is cut short after ten seconds, and says so.
    if number != signal.SIGKILL and "was cut short. What was finished is kept." not in output:
        assert f"stopped by {number.name}. Interrupted stage: {stage}." in output
        assert "the same command resumes" in output
    require_all_locks_free(home)
    if stage in STORED:
        assert any((home / "store/.staging").glob(f"{stage}-*")), "what it has done is kept"


# --- cancelled in Prefect --------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker(world: World) -> Iterator[None]:
    """A work pool with a worker of its own, and a deployment of the flow in it."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="stop", type="process"))
    deployment = rebuild_recipe.to_deployment("stop", work_pool_name="stop")
    deployment.apply()
    process = subprocess.Popen(
        [PREFECT, "worker", "start", "--pool", "stop"],
        cwd=PROJECT,
        env={**world.env, "PYTHONPATH": f"{PROJECT}:{SLOW_DISK}"},
        start_new_session=True,
    )
    yield
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("stage", ["download", "merge", "finetune", "evaluate"])
def test_a_cancel_in_prefect_ends_the_stage_with_all_that_it_has_started(
    world: World, worker: None, home: Path, stage: str
) -> None:
    for artifact in (home / "store").glob(f"{stage}-*"):
        shutil.rmtree(artifact)
    if stage == "download":
        world.faults.add(Held(), "base/resolve/.*safetensors")
    run = run_deployment(
        "rebuild-recipe/stop",
        parameters={"recipe": str(recipe(world, home, stage))},
        job_variables={"working_dir": str(PROJECT), "env": {"KAWAN_USAHA_HOME": str(home)}},
        timeout=0,
    )
    deadline = time.monotonic() + HANG_S
    while not reached(world, home, stage)():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    subprocess.run([PREFECT, "flow-run", "cancel", str(run.id)], env=world.env, check=True)
    while working_for(home):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with get_client(sync_client=True) as client:
        while (state := client.read_flow_run(run.id).state) is None or not state.is_final():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert state.is_cancelled()
    require_all_locks_free(home)
    assert any((home / "store/.staging").glob(f"{stage}-*")), "what it has done is kept"
