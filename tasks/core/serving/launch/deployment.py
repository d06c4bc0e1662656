"""Start serving a model, go back to the one before, and stop.

`deploy` ends in one of two ways: a deployment that has answered with a token and is routed to, or
an error that says what serves now. What can be refused is refused before anything is touched. The
processes live in a session of their own under supervisord and outlive the one that started them.
"""

import importlib.metadata
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from tasks.core.conversation.template.render import get_template
from tasks.core.errors import KawanUsahaError, ServingFailed, UsageError
from tasks.core.files.locks import Say, remove_lock
from tasks.core.files.private import private_directory
from tasks.core.files.temporary import remove_abandoned
from tasks.core.machine.devices import alone_on
from tasks.core.model.config import context_tokens, read_config
from tasks.core.model.template_record import template_for
from tasks.core.process.ports import free_port
from tasks.core.recipe.deploy import Deploy
from tasks.core.serving.client.worker_access import read_access, write_access
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.health import probe
from tasks.core.serving.health.workers import access_to, require_workers
from tasks.core.serving.launch.model_directory import check_limits, require_servable
from tasks.core.serving.launch.ports import require_ports
from tasks.core.serving.launch.switch import Switch
from tasks.core.serving.state.directory import (
    StateDirectory,
    changing,
    state_directories,
    state_directory,
)
from tasks.core.serving.state.files import read_deployment, read_previous, started_before
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.state.slots import SLOTS, other
from tasks.core.serving.supervision.processes import end_all, own_processes
from tasks.core.serving.supervision.supervisord import Supervisor, forget_supervisor
from tasks.core.system.clock import now_after

logger = logging.getLogger(__name__)

_SERVING_LIBRARIES = ("fschat", "torch", "transformers")
_DEFAULT_CONTEXT_TOKENS = 2048  # FastChat's, for a configuration that does not say
_STOP_GRACE_S = 90.0
Workers = Literal["required", "if there"]
"""required: other machines must answer for this deployment. if there: what is amiss is told, for
what is started again must not wait for them; one that serves another build is asked nothing."""

Require = Callable[[Deployment], None]
"""Raises where a record may not be served."""

_LOCK_S = 900.0
"""A switch may last as long as the model loads and the last answers take."""


def _nothing(_: Deployment) -> None:
    """Ask nothing of a record."""


@dataclass(frozen=True)
class StoppedDeployment:
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
    prompts: Sequence[str] = (),
    workers: Workers = "required",
    require_whole: Callable[[], None] = lambda: None,
    say: Say = logger.info,
) -> Deployment:
    """Return a deployment of the model directory that has just answered with a token.

    build identifies the model (an artifact's digest). expected_edit holds the parts that the loaded
    model's kawan_usaha_report() must equal, such as {"activations": ["silu", "gelu"]}; None for a
    model without an edit. If the same build is served with the same settings already and answers,
    that deployment is returned with reused=True. Another one of this name serves until the new one
    is proven (settings.switch), and goes on serving when that fails. prompts are what both answer
    for comparison where no client has asked anything (settings.shadow_requests at most).
    require_whole is called before anything is started, not where it serves already: it may read all
    of the model, and raises what it will.

    It is started as the only build on its GPUs: while a training or an evaluation holds one, `say`
    is told. Raises NotAModel, RecipeError, TemplateMismatch, PortTaken, and what `require_worker`
    does, before anything running is touched; EditLost when the engine does not show the expected
    edit; ServingFailed, with the end of the log, when a process dies or does not answer within
    settings.startup_timeout_s; LockBusy when another process starts or stops this deployment. What
    serves after an error stands in its next step.
    """
    get_template(template)
    template_for(model, template)
    engine_of(settings.engine).check(settings)
    served = require_servable(model)
    for warning in check_limits(served):
        say(f"Attention: {warning}")
    state = state_directory(home, name)
    private_directory(state.root)
    with changing(state, f"deploy {name}"):
        earlier = _earlier(state)
        wanted = Deployment(
            name=name,
            build=build,
            model=served,
            template=template,
            context_tokens=context_tokens(read_config(served)) or _DEFAULT_CONTEXT_TOKENS,
            settings=settings,
            expected_edit=None if expected_edit is None else dict(expected_edit),
            versions=_versions(),
            state=state.root,
            slot=other(earlier.slot) if earlier else SLOTS[0],
            engine_port=free_port(),
            started_at=now_after(started_before(state)),
        )
        new_keys = _admitted(state, wanted, workers, say)
        if earlier is not None and earlier.same_service(wanted):
            if _is_healthy(state, earlier):
                if new_keys:
                    GatewayControl(state.gateway_socket).follow_routes()
                return earlier.model_copy(update={"reused": True})
            # Not beside itself: the other slot keeps what a rollback needs.
            wanted = wanted.model_copy(update={"slot": earlier.slot})
        pids = {own.process.pid for own in own_processes(state.root)}
        require_ports(settings, ours=pids)
        require_whole()
        with _gpus_of(wanted, say):
            done = Switch(state, wanted, earlier, say, prompts).run()
    logger.info("%s is served at %s", settings.model_name, done.base_url)
    return done


def rollback(
    home: Path, name: str, *, require: Require = _nothing, say: Say = logger.info
) -> Deployment:
    """Serve again what served before what serves now.

    require is asked whether the record may be served. Raises UsageError when there is no such
    record or its model is gone, else as `deploy` does.
    """
    state = _known_state(home, name)
    if read_deployment(state) is None:
        raise UsageError(
            "Nothing serves, so there is nothing to go back from.",
            where=state.root,
            next_step=f"`kawan-usaha start {name}` starts what served last.",
        )
    return again(_there(state, read_previous(state)), home, require=require, say=say)


def start(
    home: Path, name: str, *, require: Require = _nothing, say: Say = logger.info
) -> Deployment:
    """Start what should serve and does not, after a reboot for one; or else what served last.

    require is asked whether the record may be served. Raises UsageError when there is no such
    record or its model is gone, else as `deploy` does.
    """
    state = _known_state(home, name)
    record = _there(state, read_deployment(state) or read_previous(state))
    return again(record, home, require=require, say=say)


def again(
    record: Deployment, home: Path, *, require: Require = _nothing, say: Say = logger.info
) -> Deployment:
    """Deploy what a record says, as `deploy` does; other machines may not be up yet.

    require raises what it will before anything is started, as `deploy`'s require_whole; it is not
    asked of what serves already. Nor does the watch ask: what it starts was asked about when a
    person deployed it, and must come back without the key's file.
    """
    return deploy(
        record.model,
        record.settings,
        name=record.name,
        template=record.template,
        home=home,
        build=record.build,
        expected_edit=record.expected_edit,
        workers="if there",
        require_whole=partial(require, record),
        say=say,
    )


def stop(home: Path, name: str) -> StoppedDeployment:
    """End the deployment and remove its state; the logs stay.

    Works from any process of the same user: also when supervisord was killed, after a reboot, and
    when the start was interrupted. Raises UsageError when there is no deployment of this name.
    """
    state = _known_state(home, name)
    with changing(state, f"stop {name}", wait_s=_LOCK_S):
        # The routes go first: from here on nobody may take the deployment for one that serves.
        state.routes.unlink(missing_ok=True)
        ended = end_all(state.root, grace_s=_STOP_GRACE_S)
        for slot in SLOTS:
            shutil.rmtree(state.slot(slot).root, ignore_errors=True)
        for path in (
            *(state.gateway_socket, state.supervisor_config, state.gateway),
            *(state.page, state.workers),
        ):
            path.unlink(missing_ok=True)
        forget_supervisor(state.socket, state.logs)
        remove_lock(state.gateway_lock)
        remove_abandoned(state.root)
        return StoppedDeployment(name, tuple(own.role for own in ended))


def pause(home: Path, name: str) -> StoppedDeployment:
    """End the processes of the deployment, and keep what `start` needs."""
    state = _known_state(home, name)
    with changing(state, f"pause {name}", wait_s=_LOCK_S):
        return StoppedDeployment(
            name, tuple(own.role for own in end_all(state.root, grace_s=_STOP_GRACE_S))
        )


def _there(state: StateDirectory, record: Deployment | None) -> Deployment:
    """Return a record whose model is still there."""
    if record is None:
        raise UsageError(
            "There is no such deployment on record.",
            where=state.root,
            next_step="`kawan-usaha status` shows what is deployed.",
        )
    if not record.model.is_dir():
        raise UsageError(
            "The model of that deployment is gone.",
            where=record.model,
            found=f"pruned, or never kept: {record.build}",
            next_step="Rebuild it, or download what was published: `kawan-usaha download`.",
        )
    return record


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


def _earlier(state: StateDirectory) -> Deployment | None:
    """Return what serves, should serve, or served last; None where no record can be read."""
    try:
        return read_deployment(state) or read_previous(state)
    except ServingFailed as error:
        logger.warning("%s", error)
        return None


def _admitted(state: StateDirectory, wanted: Deployment, workers: Workers, say: Say) -> bool:
    """Put down how the gateway gets into its workers; return whether that is new.

    Raises what `require_workers` does where they are required.
    """
    known = read_access(state.workers)
    access = {**known, **access_to(wanted)}
    try:
        require_workers(wanted, access)
    except KawanUsahaError as error:
        if workers == "required":
            raise
        say(f"Attention: {error.what} {error.found or ''}".rstrip())
    if access != known:
        write_access(state.workers, access)
    return access != known


def _is_healthy(state: StateDirectory, running: Deployment) -> bool:
    with suppress(ServingFailed):
        Supervisor(state.socket).processes()
        probe.require_healthy(state, running)
        return True
    logger.info("%s does not answer; it is started again", state.name)
    return False


@contextmanager
def _gpus_of(wanted: Deployment, say: Say) -> Iterator[None]:
    """Hold the GPUs while a model is loaded. A CPU is shared with its builds."""
    settings = wanted.settings
    if settings.device == "cpu":
        yield
        return
    with alone_on(settings.device, settings.gpus, f"deploy {wanted.name}", say=say):
        yield


def _versions() -> dict[str, str]:
    return {library: importlib.metadata.version(library) for library in _SERVING_LIBRARIES}
