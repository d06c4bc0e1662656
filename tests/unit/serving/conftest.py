"""Settings for tiny models on the CPU, and no server left behind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.process.ports import free_port
from tasks.core.recipe import Deploy
from tasks.core.serving.state.directory import state_directories
from tasks.core.serving.supervision.processes import end_all


@pytest.fixture(scope="session")
def settings() -> Callable[..., Deploy]:
    """Return a maker of settings with a free port for a model on the CPU."""

    def make(**changes: object) -> Deploy:
        values = {
            "device": "cpu",
            "load_8bit": False,
            "gateway": {"port": free_port()},
            **changes,
        }
        return Deploy.model_validate(values)

    return make


def end_servers_under(*homes: Path) -> None:
    for home in homes:
        for state in state_directories(home):
            end_all(state.root, grace_s=1)


@pytest.fixture(autouse=True)
def _no_server_outlives_its_test(tmp_path: Path) -> Iterator[None]:
    yield
    end_servers_under(tmp_path, tmp_path / "home")


@pytest.fixture(scope="module")
def serving_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a home directory; whatever a failed test left running in it is ended."""
    home = tmp_path_factory.mktemp("home") / "vicuna-peft home"
    home.mkdir()
    yield home
    end_servers_under(home)
