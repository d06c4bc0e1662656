"""The processes of a deployment: what each is told, and what it must not know."""

from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from tasks.core.recipe.deploy import Deploy, Gateway
from tasks.core.serving.client.key_variables import API_KEYS_VARIABLE
from tasks.core.serving.launch.process_tree import (
    SLOT_VARIABLE,
    configuration,
    engine_process,
    gateway_process,
    gateway_settings,
    watch_process,
)
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.slots import SLOTS
from tests.deployments import deployment
from tests.models import tiny_llama


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    state = StateDirectory(tmp_path / "kawan")
    state.logs.mkdir(parents=True)
    return state


def on_cpu(tmp_path: Path, state: StateDirectory, **changes: object):
    model = tiny_llama(tmp_path / "vicuna-peft", layers=1)
    return deployment(state, model=model, settings=Deploy(device="cpu", load_8bit=False), **changes)


def test_supervisord_reads_the_whole_tree_back(tmp_path, state):
    engines = [on_cpu(tmp_path, state, slot=slot) for slot in SLOTS]
    text = configuration(state, Deploy(gateway=Gateway(port=8123)), engines)
    state.supervisor_config.write_text(text)
    options = ServerOptions()
    options.realize(["-c", str(state.supervisor_config)])
    groups = {group.name: group for group in options.process_group_configs}
    assert set(groups) == {"gateway", "watch", "blue", "green"}
    gateways = groups["gateway"].process_configs
    assert [each.name for each in gateways] == ["gateway-0", "gateway-1"]
    assert groups["gateway"].socket_config.url == "tcp://127.0.0.1:8123"
    logs = [each.stdout_logfile for each in gateways]
    assert logs == [str(state.log_of("gateway-0")), str(state.log_of("gateway-1"))]


def test_an_engine_is_handed_no_key_and_bears_the_mark_of_its_slot(tmp_path, state):
    spec = engine_process(state, on_cpu(tmp_path, state, slot="green"))
    assert spec.name == "green"
    assert spec.env[API_KEYS_VARIABLE] == ""
    assert spec.env[SLOT_VARIABLE] == str(state.slot("green").root)


def test_an_engine_sees_no_part_of_a_path_that_would_choose_an_adapter(tmp_path, state):
    spec = engine_process(state, on_cpu(tmp_path, state))
    assert not any("vicuna-peft" in argument for argument in spec.argv)


def test_engines_are_ended_after_what_asks_them(tmp_path, state):
    engine = engine_process(state, on_cpu(tmp_path, state))
    gateway, watch = gateway_process(state, Gateway()), watch_process(state)
    assert engine.priority < gateway.priority < watch.priority


def test_an_ipv6_address_is_bound_by_the_gateway_itself(state):
    settings = Deploy(gateway=Gateway(host="::1"))
    assert gateway_process(state, settings.gateway).listen is None
    assert gateway_settings(state, deployment(state, settings=settings)).listen == "bind"
