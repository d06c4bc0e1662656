"""A machine on which Prefect is up, and a recipe is built: what is struck, watched and compared."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.prefect_server.automations import recovery_automations
from flows.prefect_server.crashed_runs import expect_heartbeats
from flows.prefect_server.pools import HEARTBEAT_S
from flows.prefect_server.start_stop import stop_prefect
from flows.stage_names import StageName
from tasks.core.process.ports import free_port
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.state.directory import state_directories
from tasks.core.store.manifest import Manifest, read_manifest
from tests.prefect_command import HANG_S, Prefect
from tests.tiny_world import World, tiny_world

STEPS = 60
_SAVE_STEPS = 5
SLOW_DISK = Path(__file__).parents[1] / "e2e" / "slow_disk"
_ENVIRONMENT = {
    "HF_HUB_DISABLE_XET": "1",  # the embedded Hub speaks LFS
    "OMP_NUM_THREADS": "1",  # sums of several threads can differ in their last bit
}
ONE_AT_A_TIME = "rebuild-recipe/kawan-usaha-13b"
"""Its pool, kawan-gpu, has one slot: a run that keeps it would keep every later one waiting."""
SIDE_BY_SIDE = "rebuild-recipe/demo"
WORKER = "kawan-gpu"
_SILENT_FOR_S = 2 * HEARTBEAT_S + 10
_RESTART_AFTER_S = 45
"""Less than a person waits. A worker's second report of a kill can so come after the restart."""


@dataclass
class Machine:
    """A home with Prefect up, the recipe's file, and the digest of each artifact, undisturbed."""

    world: World
    prefect: Prefect
    recipe: Path
    port: int
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Return the home directory."""
        return self.prefect.at.home

    @property
    def api(self) -> str:
        """Return the address of the API."""
        return f"http://127.0.0.1:{self.port}/api"

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Yield a client of the server that is up here."""
        settings = {PREFECT_API_URL: self.api}
        with temporary_settings(settings), get_client(sync_client=True) as client:
            yield client

    def up(self) -> None:
        """Start what is not up. The automations wait for less long than a person wants them to."""
        self.prefect.up("--port", str(self.port))
        hasty = recovery_automations(silent_for_s=_SILENT_FOR_S, restart_after_s=_RESTART_AFTER_S)
        with self.client() as client:
            for wanted in hasty:
                (there,) = client.read_automations_by_name(wanted.name)
                if there.trigger != wanted.trigger:
                    client.update_automation(there.id, wanted)
            expect_heartbeats(client)  # an update makes the server forget for whom it waits

    def start(
        self,
        deployment: str = ONE_AT_A_TIME,
        env: dict[str, str] | None = None,
        *,
        until: StageName = "publish",
    ) -> UUID:
        """Start a run of the recipe, as the UI does, and return its id."""
        with self.client():
            run: Any = run_deployment(
                deployment,
                parameters={"recipe": str(self.recipe), "until": until},
                job_variables={"env": env or {}},
                timeout=0,
            )
        return UUID(str(run.id))

    def retry(self, run: UUID) -> None:
        """Do what the button Retry of the UI does."""
        self.set_state(run, {"type": "SCHEDULED", "name": "AwaitingRetry"}, force=True)

    def cancel(self, run: UUID) -> None:
        """Do what the button Cancel of the UI does."""
        self.set_state(run, {"type": "CANCELLING"}, force=False)

    def set_state(self, run: UUID, state: dict[str, str], *, force: bool) -> None:
        """Do what the buttons of the UI do that change the state of a run."""
        with self.client() as client:
            body = {"state": state, "force": force}
            path = {"id": run}
            client.request("POST", "/flow_runs/{id}/set_state", path_params=path, json=body)

    def states(self, run: UUID) -> list[State[Any]]:
        """Return all states that the run has had, the first one first; none without an answer."""
        try:
            with self.client() as client:
                asked = {"flow_run_id": str(run)}
                found = client.request("GET", "/flow_run_states/", params=asked).json()
        except httpx.TransportError:
            return []
        return sorted((State.model_validate(each) for each in found), key=lambda s: s.timestamp)

    def lines(self, run: UUID) -> list[str]:
        """Return what the run has said so far."""
        with self.client() as client:
            body = {"logs": {"flow_run_id": {"any_": [str(run)]}}}
            found = client.request("POST", "/logs/filter", json=body).json()
        return [each["message"] for each in found]

    def running_tasks(self) -> list[str]:
        """Return the tasks that count as running, of whichever run."""
        running = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
        with self.client() as client:
            body = {"task_runs": running}
            found = client.request("POST", "/task_runs/filter", json=body).json()
        return [each["name"] for each in found]

    def ended(self, run: UUID, *types: str) -> Callable[[], bool]:
        """Return what tells whether the run is in a state of one of these types."""

        def has_ended() -> bool:
            states = self.states(run)
            return bool(states) and states[-1].type.value in types

        return has_ended

    def staging(self, stage: str) -> Path | None:
        """Return where the stage works, None where it does not."""
        return next(iter((self.home / "store/.staging").glob(f"{stage}-*")), None)

    def forget(self, stage: str) -> None:
        """Remove what the stage has made, whole or not."""
        for place in (self.home / "store", self.home / "store/.staging"):
            for path in place.glob(f"{stage}-*"):
                shutil.rmtree(path)

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of each artifact by its name."""
        found = {p.name: read_manifest(p) for p in (self.home / "store").glob("[a-z]*-*")}
        return {name: manifest for name, manifest in found.items() if manifest is not None}


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition is true. Raises TimeoutError after HANG_S."""
    give_up = time.monotonic() + HANG_S
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"In vain: {what}.")
        time.sleep(0.1)


@contextmanager
def machine(root: Path) -> Iterator[Machine]:
    """Yield a machine on which the recipe was built up to its publication, undisturbed."""
    with tiny_world(root / "world") as world:
        prefect = Prefect(root, {**world.env, **_ENVIRONMENT})
        recipe = write_recipe(world, root, "kawan-usaha/undisturbed")
        made = Machine(world, prefect, recipe, free_port())
        try:
            made.up()
            run = made.start()
            wait_for(made.ended(run, "COMPLETED"), "the undisturbed run")
            made.digests = {n: m.content_digest for n, m in made.manifests().items()}
            yield made
        finally:
            stop_prefect(prefect.at, say=lambda _: None)
            for served in state_directories(prefect.at.home):
                stop(prefect.at.home, served.name)


def write_recipe(world: World, root: Path, repo: str) -> Path:
    """Write the recipe, which publishes to repo; its training saves every few steps."""
    return world.recipe(
        root / "struck.yaml",
        edit={"activations": [{"layers": [-1], "activation": "gelu"}]},
        finetune={
            "micro_batch_size": 2,
            "max_steps": STEPS,
            "save_steps": _SAVE_STEPS,
            "logging_steps": 1,
        },
        publish={"repo": repo},
    )
