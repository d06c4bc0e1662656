"""The processes of one deployment, as supervisord runs them. Pure but for the look at the CPU.

    gateway-0, gateway-1   one serves clients, the other is on standby
    watch                  asks for a token every few seconds, and restarts what does not answer
    page                   to talk to the model in a browser, if the recipe asks for one
    blue, green            an engine, in each slot that is in use

supervisord opens the gateway's socket and both copies inherit it: when the serving one is killed,
connections wait in the socket until the other one, which waits for a lock, takes over. No secret is
in an argument or in the configuration; the gateway's keys come through supervisord's environment,
and engines do not get them, because they run a model's code.
"""

import ipaddress
import sys
from collections.abc import Iterable
from dataclasses import replace

from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.planning.shape import dtype_of
from tasks.core.process.environment import SUPERVISED
from tasks.core.recipe.deploy import Deploy, Gateway
from tasks.core.serving.client.key_variables import API_KEY_VARIABLE, API_KEYS_VARIABLE
from tasks.core.serving.engines.base import Launch
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.gateway.settings import GatewaySettings
from tasks.core.serving.page.settings import PageSettings
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.process_spec import GATEWAY, PAGE, WATCH, ProcessSpec
from tasks.core.serving.supervision.supervisor_config import supervisor_config

SLOT_VARIABLE = "KAWAN_USAHA_SLOT"
"""Marks the processes of an engine, in addition to the deployment's mark, with their slot."""

_GATEWAY_STOP_S = 70.0  # answers in progress may take GatewaySettings.shutdown_s
_WATCH_MODULE = "tasks.serving_watch"  # outside of core, because it notifies Prefect


def configuration(state: StateDirectory, settings: Deploy, engines: Iterable[Deployment]) -> str:
    """Return the supervisord.conf with the gateway, the watch, the page, and these engines.

    Raises RecipeError for settings that an engine does not support.
    """
    specs = [gateway_process(state, settings.gateway), watch_process(state)]
    specs += [page_process(state)] if settings.page else []
    specs += [engine_process(state, each) for each in engines]
    return supervisor_config(specs, directory=state.root, logs=state.logs, socket=state.socket)


def gateway_settings(state: StateDirectory, deployment: Deployment) -> GatewaySettings:
    """Return the settings of a deployment's gateway."""
    gateway = deployment.settings.gateway
    return GatewaySettings(
        gateway=gateway,
        routes=state.routes,
        lock=state.gateway_lock,
        workers=state.workers,
        collected=state.collected,
        collect=deployment.settings.collect,
        control_socket=state.gateway_socket,
        shadow_requests=deployment.settings.shadow_requests,
        listen="inherited" if _listen(gateway) else "bind",
    )


def gateway_process(state: StateDirectory, gateway: Gateway) -> ProcessSpec:
    """Return the gateway in two copies: one serves, the other takes over when it dies."""
    return ProcessSpec(
        name=GATEWAY,
        argv=(sys.executable, "-P", "-m", "tasks.core.serving.gateway", str(state.gateway)),
        env=SUPERVISED,
        cwd=state.root,
        priority=2,
        stop_wait_s=_GATEWAY_STOP_S,
        listen=_listen(gateway),
        copies=2,
    )


def page_settings(deployment: Deployment) -> PageSettings | None:
    """Return the settings of a deployment's page, None without one."""
    page = deployment.settings.page
    if page is None:
        return None
    return PageSettings(
        base_url=deployment.base_url,
        model_name=deployment.settings.model_name,
        port=page.port,
        kept_days=deployment.settings.kept_days,
    )


def page_process(state: StateDirectory) -> ProcessSpec:
    """Return the page."""
    argv = (sys.executable, "-P", "-m", "tasks.core.serving.page", str(state.page))
    env = {**SUPERVISED, API_KEYS_VARIABLE: ""}
    return ProcessSpec(PAGE, argv, env, cwd=state.root, priority=3)


def watch_process(state: StateDirectory) -> ProcessSpec:
    """Return the watch, which is stopped first. It has the keys, to restart everything."""
    argv = (sys.executable, "-P", "-m", _WATCH_MODULE, str(state.root))
    return ProcessSpec(WATCH, argv, SUPERVISED, cwd=state.root, priority=3)


def engine_process(state: StateDirectory, deployment: Deployment) -> ProcessSpec:
    """Return the engine of a deployment in its slot."""
    spec = engine_of(deployment.settings.engine).process(launch_of(state, deployment))
    slot = state.slot(deployment.slot)
    env = {**spec.env, API_KEYS_VARIABLE: "", API_KEY_VARIABLE: "", SLOT_VARIABLE: str(slot.root)}
    return replace(spec, name=deployment.slot, env=env, priority=1)


def launch_of(state: StateDirectory, deployment: Deployment) -> Launch:
    """Return the launch parameters of a deployment's engine."""
    return Launch(
        settings=deployment.settings,
        template=deployment.template,
        model=state.slot(deployment.slot).model,
        port=deployment.engine_port,
        cpu_dtype=compute_dtype(dtype_of(deployment.model), read_cpu()),
    )


def _listen(gateway: Gateway) -> str | None:
    """Return the socket that supervisord opens; it supports IPv4 only."""
    if ipaddress.ip_address(gateway.host).version == 6:
        return None
    return f"tcp://{gateway.host}:{gateway.port}"
