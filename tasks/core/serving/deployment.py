"""Start serving a model, and stop it.

`deploy` ends in one of two ways: a deployment that has answered with a token and is on record, or
an error with nothing of it left running. The servers live in a session of their own under
supervisord and outlive the process that started them.
"""

import importlib.metadata
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from tasks.core.errors import ServingFailed, UsageError
from tasks.core.files import write_atomically
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.planning.shapes import dtype_of
from tasks.core.private import private_directory
from tasks.core.process.guard import Guard
from tasks.core.process.tree import Mark
from tasks.core.recipe import Deploy
from tasks.core.serving import probe
from tasks.core.serving.control import Supervisor
from tasks.core.serving.model_directory import require_model
from tasks.core.serving.ports import require_ports
from tasks.core.serving.processes import MARK, end_all, own_processes
from tasks.core.serving.report import Expectation
from tasks.core.serving.startup import Startup
from tasks.core.serving.state import (
    Deployment,
    StateDirectory,
    read_deployment,
    state_directories,
    state_directory,
    write_deployment,
)
from tasks.core.serving.supervisor_config import STOP_WAIT_S, supervisor_config
from tasks.core.serving.topology import plan_processes, ports_of
from tasks.core.store.locks import locked

logger = logging.getLogger(__name__)

_SERVING_LIBRARIES = ("fschat", "torch", "transformers")
_STOP_GRACE_S = 3 * STOP_WAIT_S + 5.0  # the three are stopped one after the other


@dataclass(frozen=True)
class Stopped:
    """What `stop` ended: the roles that ran, supervisord among them; none if it was down."""

    name: str
    ended: tuple[str, ...]


def deploy(
    model: Path,
    settings: Deploy,
    *,
    name: str,
    template: str,
    home: Path,
    build: str,
    expected_edit: Mapping[str, JsonValue] | None = None,
) -> Deployment:
    """Return a deployment of the model directory that has just answered with a token.

    build identifies the model (an artifact's digest). expected_edit holds the parts that the loaded
    model's kawan_usaha_report() must equal, such as {"activations": ["silu", "gelu"]}; None for a
    model without an edit. If the same build runs with the same settings already and answers, that
    deployment is returned with reused=True; any other deployment of this name is replaced.

    Raises NotAModel, RecipeError, PortTaken before anything running is touched; EditLost when the
    worker does not show the expected edit; ServingFailed, with the end of the log, when a process
    dies or does not answer within settings.startup_timeout_s; LockBusy when another process starts
    or stops this deployment. After an error nothing of the new deployment runs.
    """
    state = state_directory(home, name)
    wanted = Deployment(
        name=name,
        build=build,
        model=require_model(model),
        template=template,
        settings=settings,
        expected_edit=None if expected_edit is None else dict(expected_edit),
        versions={library: importlib.metadata.version(library) for library in _SERVING_LIBRARIES},
        state=state.root,
        socket=state.socket,
        started_at=datetime.now(UTC),
    )
    private_directory(state.root)
    with locked(state.lock):
        if (running := _running_already(state, wanted)) is not None:
            return running.model_copy(update={"reused": True})
        config = _supervisor_config(state, wanted)
        own_pids = {own.process.pid for own in own_processes(state.root)}
        require_ports(settings.host, ports_of(settings), ours=own_pids)
        _end(state)
        try:
            with Guard(Mark(MARK, str(state.root))):
                _prepare(state, wanted, config)
                Startup(state, wanted).run()
                probe.require_healthy(wanted, generate_s=settings.startup_timeout_s)
                write_deployment(state, wanted)
        except BaseException:
            _end(state)
            raise
    logger.info("%s is served at %s", settings.model_name, wanted.base_url)
    return wanted


def stop(home: Path, name: str) -> Stopped:
    """End the deployment and remove its state; the logs stay.

    Works from any process of the same user: also when supervisord was killed, after a reboot, and
    when the start was interrupted. Raises UsageError when there is no deployment of this name.
    """
    state = state_directory(home, name)
    if not state.root.is_dir():
        known = ", ".join(each.name for each in state_directories(home)) or "none"
        raise UsageError(
            "There is no deployment of this name.",
            where=state.root,
            expected=f"one of: {known}",
            found=name,
        )
    with locked(state.lock, wait_s=_STOP_GRACE_S):
        return Stopped(name, _end(state))


def _running_already(state: StateDirectory, wanted: Deployment) -> Deployment | None:
    try:
        running = read_deployment(state)
        if running is None or not running.same_service(wanted):
            return None
        Supervisor(running.socket).processes()
        probe.require_healthy(running)
    except ServingFailed as error:
        logger.info("replacing %s: %s", state.name, error.what)
        return None
    return running


def _supervisor_config(state: StateDirectory, wanted: Deployment) -> str:
    specs = plan_processes(
        wanted.settings,
        template=wanted.template,
        model=state.model,
        modules=state.modules,
        expectation=state.expectation,
        cpu_dtype=compute_dtype(dtype_of(wanted.model), read_cpu()),
    )
    return supervisor_config(specs, directory=state.root, logs=state.logs, socket=wanted.socket)


def _prepare(state: StateDirectory, wanted: Deployment, config: str) -> None:
    """Put down what the processes read. Whatever an earlier deployment left is gone already."""
    shutil.rmtree(state.logs, ignore_errors=True)
    state.logs.mkdir()
    expectation = Expectation(
        build=wanted.build, template=wanted.template, edit=wanted.expected_edit
    )
    write_atomically(state.expectation, expectation.model_dump_json())
    write_atomically(state.supervisor_config, config)
    state.model.symlink_to(wanted.model)


def _end(state: StateDirectory) -> tuple[str, ...]:
    """End whatever runs of a deployment, and remove its state but for the logs."""
    # The record goes first: from here on nobody may take the deployment for one that serves.
    state.deployment.unlink(missing_ok=True)
    ended = end_all(state.root, grace_s=_STOP_GRACE_S)
    for path in (
        state.socket,
        state.supervisor_config,
        state.expectation,
        state.refusal,
        state.model,
    ):
        path.unlink(missing_ok=True)
    shutil.rmtree(state.modules, ignore_errors=True)
    return tuple(own.role for own in ended)
