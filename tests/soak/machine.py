"""A machine that is left alone: Prefect is up, a recipe is deployed, and schedules are on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from huggingface_hub import HfApi
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import IntervalSchedule

from flows.prefect_server.start_stop import stop_prefect
from tasks.core.process.ports import free_port
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.state.directory import state_directories, state_directory
from tasks.core.serving.state.files import read_deployment
from tests.models import tiny_delta, tiny_llama
from tests.prefect_command import Prefect
from tests.recovery.machine import SIDE_BY_SIDE, Machine, wait_for
from tests.tiny_world import tiny_world

NAME = "soak"
MODEL = "Kawan-Usaha"
_WATCH_EVERY_S, _PRUNE_EVERY_S = 300.0, 600.0
_ENVIRONMENT = {
    "HF_HUB_DISABLE_XET": "1",  # the embedded Hub speaks LFS
    "OMP_NUM_THREADS": "1",
    # What bounds the database in a week bounds it within the warm-up.
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "PT5M",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "60",
}

_OUTSIDE = {
    "Hugging Face's cache": "huggingface",
    "temporary files of commands": "tmp",
    "scratch": "scratch",
}


@dataclass
class LeftAlone:
    """The machine, where its model and its page answer, and what lies outside of its home."""

    machine: Machine
    url: str
    page: str
    outside: dict[str, Path]

    @property
    def home(self) -> Path:
        """Return the home directory."""
        return self.machine.home

    def build(self) -> str | None:
        """Return the build that serves, None where none does."""
        deployment = read_deployment(state_directory(self.home, NAME))
        return deployment.build if deployment else None

    def switch_schedules_on(self, every_s: float) -> None:
        """Have the recipe rebuilt so often, and the upkeep done as well."""
        self._schedule(SIDE_BY_SIDE, every_s, {"recipe": str(self.machine.recipe)})
        self._schedule("serving-watch/serving-watch", _WATCH_EVERY_S, {})
        self._schedule("store-prune/store-prune", _PRUNE_EVERY_S, {"dry_run": False})

    def publish_new_delta(self) -> None:
        """Give the Hub another delta: the next scheduled run finds something new."""
        root, world = self.outside["scratch"], self.machine.world
        delta = tiny_delta(
            world.root / "base", tiny_llama(root / "target", seed=3), root / "new-delta"
        )
        client = HfApi(endpoint=world.env["HF_ENDPOINT"], token=world.env["HF_TOKEN"])
        client.upload_folder(repo_id="kawan-usaha/delta", folder_path=delta)

    def _schedule(self, deployment: str, every_s: float, parameters: dict[str, object]) -> None:
        with self.machine.client() as client:
            client.create_deployment_schedules(
                client.read_deployment_by_name(deployment).id,
                [
                    DeploymentScheduleCreate(
                        schedule=IntervalSchedule(interval=timedelta(seconds=every_s)),
                        parameters=parameters,
                        slug="soak",
                        active=True,
                    )
                ],
            )


@contextmanager
def left_alone(root: Path) -> Iterator[LeftAlone]:
    """Yield the machine once its recipe has been built and serves; no schedule is on yet."""
    outside = {name: root / directory for name, directory in _OUTSIDE.items()}
    for directory in (root / "world", *outside.values()):
        directory.mkdir(exist_ok=True)
    with tiny_world(root / "world") as world:
        env = {**world.env, **_ENVIRONMENT, "HF_HOME": str(outside["Hugging Face's cache"])}
        prefect = Prefect(root, env)
        gateway, page = free_port(), free_port()
        recipe = world.recipe(
            root / f"{NAME}.yaml",
            edit={"activations": [{"layers": [-1], "activation": "gelu"}]},
            deploy={
                "model_name": MODEL,
                "load_8bit": False,
                "gateway": {"port": gateway},
                "page": {"port": page},
            },
        )
        machine = Machine(world, prefect, recipe, free_port())
        try:
            prefect.up("--port", str(machine.port))
            first = machine.start(SIDE_BY_SIDE, until="deploy")
            wait_for(machine.ended(first, "COMPLETED"), "the first run")
            url = f"http://127.0.0.1:{gateway}"
            yield LeftAlone(machine, url, f"http://127.0.0.1:{page}", outside)
        finally:
            stop_prefect(prefect.at, say=lambda _: None)
            for served in state_directories(prefect.at.home):
                stop(prefect.at.home, served.name)
