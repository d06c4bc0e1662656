"""Settings for tiny models on the CPU, and no server left behind."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.process.ports import free_port
from tasks.core.recipe import Deploy
from tasks.core.recipe.deploy import Gateway
from tasks.core.serving.engines import base
from tasks.core.serving.launch import process_tree
from tasks.core.serving.state.directory import StateDirectory, state_directories
from tasks.core.serving.supervision.process_spec import ProcessSpec
from tasks.core.serving.supervision.processes import end_all
from tests.prefork import preforked, preforked_quick_start


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


@pytest.fixture(scope="module")
def preforked_engines() -> Iterator[None]:
    """Spare the engines of deployments their imports, as `tests.prefork` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "quick_start", preforked_quick_start)
        yield


@pytest.fixture
def preforked_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the engines and gateways of this test's deployments their imports.

    A fork does not carry the mark of its deployment: the port that it holds is a stranger's.
    """
    really = process_tree.gateway_process
    python = (sys.executable, "-P", "-m")

    def gateway_process(state: StateDirectory, gateway: Gateway) -> ProcessSpec:
        spec = really(state, gateway)
        assert tuple(spec.argv[: len(python)]) == python
        return replace(spec, argv=tuple(preforked("gateway", *spec.argv[len(python) :])))

    monkeypatch.setattr(base, "quick_start", preforked_quick_start)
    monkeypatch.setattr(process_tree, "gateway_process", gateway_process)
