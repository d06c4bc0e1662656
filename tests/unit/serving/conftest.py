"""Free ports, settings for tiny models on the CPU, and no server left behind."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.recipe import Deploy
from tasks.core.serving.processes import end_all
from tasks.core.serving.state import state_directories


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.fixture(scope="session")
def settings() -> Callable[..., Deploy]:
    """Return a maker of settings with three free ports for a model on the CPU."""

    def make(**changes: object) -> Deploy:
        api, controller, worker = free_ports(3)
        values = {
            "device": "cpu",
            "load_8bit": False,
            "api_port": api,
            "controller_port": controller,
            "worker_port": worker,
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
