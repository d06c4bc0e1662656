"""Start serving a model, and stop it.

`deploy` ends in one of two ways: a deployment that has answered with a token and is on record, or
an error with nothing of it left running. Then the earlier deployment of this name is started again,
for which its record is kept aside; after Ctrl-C or a kill, which must not take the time that a
model takes to load, `restore` does so. The servers live in a session of their own under
supervisord and outlive the process that started them.
"""

import importlib.metadata
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.template import get_template
from tasks.core.devices import alone_on
from tasks.core.errors import KawanUsahaError, ServingFailed, UsageError
from tasks.core.files import write_atomically
from tasks.core.locks import Say, locked
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.planning.shapes import dtype_of
from tasks.core.private import private_directory
from tasks.core.process.guard import Guard
from tasks.core.process.tree import Mark
from tasks.core.recipe import Deploy
from tasks.core.serving import probe
from tasks.core.serving.control import Supervisor
from tasks.core.serving.model_directory import check_limits, require_model
from tasks.core.serving.ports import require_ports
from tasks.core.serving.processes import MARK, end_all, own_processes
from tasks.core.serving.report import Expectation
from tasks.core.serving.startup import Startup
from tasks.core.serving.state import (
    Deployment,
    StateDirectory,
    read_deployment,
    read_previous,
    set_aside,
    state_directories,
    state_directory,
    write_deployment,
)
from tasks.core.serving.supervisor_config import STOP_WAIT_S, supervisor_config
from tasks.core.serving.topology import plan_processes, ports_of
from tasks.core.template_record import template_for

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
    say: Say = logger.info,
) -> Deployment:
    """Return a deployment of the model directory that has just answered with a token.

    build identifies the model (an artifact's digest). expected_edit holds the parts that the loaded
    model's kawan_usaha_report() must equal, such as {"activations": ["silu", "gelu"]}; None for a
    model without an edit. If the same build runs with the same settings already and answers, that
    deployment is returned with reused=True; any other deployment of this name is replaced.

    It is started as the only build on its GPUs: while a training or an evaluation holds one, `say`
    is told. Raises NotAModel, RecipeError, TemplateMismatch, PortTaken before anything running is
    touched; EditLost when the worker does not show the expected edit; ServingFailed, with the end
    of the log, when a process dies or does not answer within settings.startup_timeout_s; LockBusy
    when another process starts or stops this deployment. After an error nothing of the new
    deployment runs; whether the earlier one serves again stands in the error's next step.
    """
    get_template(template)
    template_for(model, template)
    served = require_model(model)
    for warning in check_limits(served):
        say(f"Attention: {warning}")
    state = state_directory(home, name)
    wanted = Deployment(
        name=name,
        build=build,
        model=served,
        template=template,
        settings=settings,
        expected_edit=None if expected_edit is None else dict(expected_edit),
        versions=_versions(),
        state=state.root,
        socket=state.socket,
        started_at=datetime.now(UTC),
    )
    private_directory(state.root)
    with locked(state.lock, f"deploy {name}"):
        if (running := _running_already(state, wanted)) is not None:
            return running.model_copy(update={"reused": True})
        config = _checked_config(state, wanted)
        with _gpus_of(wanted, say):
            set_aside(state)
            try:
                _replace(state, wanted, config)
            except BaseException as error:
                _fall_back(state, error)
                raise
    logger.info("%s is served at %s", settings.model_name, wanted.base_url)
    return wanted


def restore(home: Path, name: str, *, say: Say = logger.info) -> Deployment:
    """Start the earlier deployment again whose replacement failed or was cut off.

    Its record stays until it serves. Raises UsageError when there is none, else as `deploy` does.
    """
    state = _known_state(home, name)
    with locked(state.lock, f"restore {name}"):
        previous = read_previous(state)
        if previous is None:
            raise UsageError(
                "There is no earlier deployment to start again.",
                where=state.root,
                next_step="`kawan-usaha status` shows what is deployed.",
            )
        with _gpus_of(previous, say):
            return _start_again(state, previous)


def stop(home: Path, name: str) -> Stopped:
    """End the deployment and remove its state; the logs stay.

    Works from any process of the same user: also when supervisord was killed, after a reboot, and
    when the start was interrupted. Raises UsageError when there is no deployment of this name.
    """
    state = _known_state(home, name)
    with locked(state.lock, f"stop {name}", wait_s=_STOP_GRACE_S):
        ended = _end(state)
        state.previous.unlink(missing_ok=True)
        return Stopped(name, ended)


def _known_state(home: Path, name: str) -> StateDirectory:
    state = state_directory(home, name)
    if not state.root.is_dir():
        known = ", ".join(each.name for each in state_directories(home)) or "none"
        raise UsageError(
            "There is no deployment of this name.",
            where=state.root,
            expected=f"one of: {known}",
            found=name,
        )
    return state


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


def _checked_config(state: StateDirectory, wanted: Deployment) -> str:
    """Return the configuration of its supervisord once nothing is known to forbid the start."""
    config = _supervisor_config(state, wanted)
    own_pids = {own.process.pid for own in own_processes(state.root)}
    require_ports(wanted.settings.host, ports_of(wanted.settings), ours=own_pids)
    return config


@contextmanager
def _gpus_of(wanted: Deployment, say: Say) -> Iterator[None]:
    """Hold the GPUs while a model is loaded. A CPU is shared with its builds."""
    settings = wanted.settings
    if settings.device == "cpu":
        yield
        return
    with alone_on(settings.device, settings.gpus, f"deploy {wanted.name}", say=say):
        yield


def _replace(state: StateDirectory, wanted: Deployment, config: str) -> None:
    """End what runs and start what is wanted. After an error nothing of either runs."""
    _end(state)
    try:
        with Guard(Mark(MARK, str(state.root))):
            _prepare(state, wanted, config)
            Startup(state, wanted).run()
            probe.require_healthy(wanted, generate_s=wanted.settings.startup_timeout_s)
            write_deployment(state, wanted)
    except BaseException:
        _end(state)
        raise
    state.previous.unlink(missing_ok=True)


def _fall_back(state: StateDirectory, error: BaseException) -> None:
    """Start the earlier deployment again, if there was one, and say in the error what became of it.

    Not after Ctrl-C: whoever stops does not want to wait until a model is loaded.
    """
    again = f"`kawan-usaha restore {state.name}` starts it again."
    try:
        previous = read_previous(state)
        if previous is None:
            return
        if not isinstance(error, Exception):
            _add(error, f"The earlier deployment was ended for this one: {again}")
            return
        _start_again(state, previous)
    except (KawanUsahaError, OSError) as second:
        reason = second.what if isinstance(second, KawanUsahaError) else str(second)
        _add(error, f"The earlier deployment does not serve either: {reason} {again}")
    except BaseException:
        _add(error, f"The earlier deployment does not serve: {again}")
        raise
    else:
        logs = f"the logs of the one that failed are in {state.failed_logs}."
        _add(error, f"The earlier deployment serves again; {logs}")


def _add(error: BaseException, sentence: str) -> None:
    logger.warning("%s", sentence)
    if isinstance(error, KawanUsahaError):
        error.next_step = " ".join(filter(None, (error.next_step, sentence)))
    else:
        error.add_note(sentence)


def _start_again(state: StateDirectory, previous: Deployment) -> Deployment:
    require_model(previous.model)
    again = previous.model_copy(
        update={"versions": _versions(), "socket": state.socket, "started_at": datetime.now(UTC)}
    )
    config = _checked_config(state, again)
    shutil.rmtree(state.failed_logs, ignore_errors=True)
    if state.logs.is_dir():
        state.logs.rename(state.failed_logs)
    _replace(state, again, config)
    return again


def _versions() -> dict[str, str]:
    return {library: importlib.metadata.version(library) for library in _SERVING_LIBRARIES}


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
