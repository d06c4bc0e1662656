"""Deployments that are started by several processes at one moment: real ones, on tiny models."""

from pathlib import Path

import httpx
import pytest

from tasks.core.process.ports import free_port
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.launch.ports import can_bind
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.files import read_deployment
from tasks.core.serving.state.slots import SLOTS
from tasks.core.serving.supervision.processes import own_processes
from tests.crowd import Member, crowd
from tests.models import tiny_llama

pytestmark = pytest.mark.slow

_DEPLOY = """
from tasks.core.recipe import Deploy
from tasks.core.serving.launch.deployment import deploy

def work(number, given):
    name, port = given["deployments"][number]
    settings = {"device": "cpu", "load_8bit": False, "gateway": {"port": port}}
    done = deploy(
        Path(given["model"]), Deploy.model_validate(settings),
        name=name, template="vicuna_v1.1", home=Path(given["home"]), build="b1",
    )
    return done.base_url
"""


def deployed(tmp_path: Path, *deployments: tuple[str, int]) -> list[Member]:
    """Return how it ended for processes that deploy one model under these names and ports."""
    model = tiny_llama(tmp_path / "model")
    given = {"deployments": deployments, "model": str(model), "home": str(tmp_path)}
    return crowd(_DEPLOY, tmp_path / "crowd", count=len(deployments), given=given)


def require_serves(home: Path, name: str) -> None:
    """Require that a deployment answers, is on record, and that nothing of it stays at its end."""
    state = state_directory(home, name)
    found = read_deployment(state)
    assert found is not None
    request = {"model": found.settings.model_name, "prompt": "modal", "max_tokens": 2}
    answer = httpx.post(f"{found.base_url}/completions", json=request, timeout=120)
    assert answer.status_code == 200, answer.text
    assert stop(home, name).ended
    require_nothing(home, name)
    assert can_bind("127.0.0.1", found.settings.gateway.port)


def require_nothing(home: Path, name: str) -> None:
    """Require that no process, route, slot or socket of a deployment is there."""
    state = state_directory(home, name)
    assert own_processes(state.root) == []
    assert read_deployment(state) is None
    assert [slot for slot in SLOTS if state.slot(slot).root.exists()] == []
    assert not state.gateway_socket.exists()
    assert not state.socket.exists()


def test_of_many_that_deploy_one_name_one_does_and_the_others_are_told_by_whom(
    tmp_path: Path,
) -> None:
    port = free_port()
    members = deployed(tmp_path, *[("kawan", port)] * 4)
    served = [member for member in members if member.error is None]
    busy = [member for member in members if member.error == "LockBusy"]
    assert (len(served), len(busy)) == (1, 3), members
    assert all("deploy kawan (pid" in member.text for member in busy)
    require_serves(tmp_path, "kawan")


def test_of_two_that_want_one_port_one_serves_and_of_the_other_nothing_is_left(
    tmp_path: Path,
) -> None:
    port, names = free_port(), ("kawan", "usaha")
    members = deployed(tmp_path, *[(name, port) for name in names])
    lost = [n for n, member in zip(names, members, strict=True) if member.error is not None]
    assert len(lost) == 1, members
    (told,) = [member for member in members if member.error is not None]
    assert told.error == "PortTaken", told
    assert str(port) in told.text
    require_nothing(tmp_path, lost[0])
    (won,) = set(names) - set(lost)
    require_serves(tmp_path, won)


def test_two_deployments_with_ports_of_their_own_serve_beside_each_other(tmp_path: Path) -> None:
    members = deployed(tmp_path, ("kawan", free_port()), ("usaha", free_port()))
    assert [member.error for member in members] == [None, None], members
    for name in ("kawan", "usaha"):
        require_serves(tmp_path, name)
