"""Deploy a model, roll back to the previous one, start, and stop.

`deploy` ends with a deployment that has answered with a token and gets the traffic, or with an
error that says what serves now. Everything that can be checked is checked before the running
deployment is touched. The processes run in a session of their own under supervisord and outlive the
one that started them.
"""

import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from tasks.core.conversation.template.render import get_template
from tasks.core.errors import KawanUsahaError, ServingFailed, UsageError
from tasks.core.files.locks import Say
from tasks.core.files.private import private_directory
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
    existing_state,
    state_directory,
)
from tasks.core.serving.state.files import read_deployment, read_previous, started_before
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.state.slots import SLOTS, other
from tasks.core.serving.supervision.processes import own_processes
from tasks.core.serving.supervision.supervisord import Supervisor
from tasks.core.system.clock import now_after

logger = logging.getLogger(__name__)

_SERVING_LIBRARIES = ("fschat", "torch", "transformers")
_DEFAULT_CONTEXT_TOKENS = 2048  # FastChat's, for a configuration that does not say
Workers = Literal["required", "if there"]
"""required: other machines must answer for this deployment. if there: problems are reported only,
because a restart must not wait for them; one that serves another build gets no requests."""

Require = Callable[[Deployment], None]
"""Raises if a record may not be served."""


def _nothing(_: Deployment) -> None:
    """Accept any record."""


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

    build identifies the model (an artifact's digest). expected_edit is what the loaded model's
    kawan_usaha_report() must contain, such as {"activations": ["silu", "gelu"]}; None for a model
    without an edit. If the same build is already served with the same settings and answers, that
    deployment is returned with reused=True. Another one of this name serves until the new one is
    proven (settings.switch), and keeps serving if that fails. prompts are answered by both for
    comparison if no client has sent a request (settings.shadow_requests at most). require_whole is
    called before anything is started, but not if it serves already; it may read the whole model,
    and raise.

    The model is loaded as the only build on its GPUs: while a training or an evaluation holds one,
    `say` gets a line. Raises NotAModel, RecipeError, TemplateMismatch, PortTaken, and what
    `require_worker` does, before anything running is touched; EditLost when the engine does not
    show the expected edit; ServingFailed, with the end of the log, when a process dies or does not
    answer within settings.startup_timeout_s; LockBusy when another process starts or stops this
    deployment. The next step of an error says what serves now.
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
            # In its own slot: the other one keeps what a rollback needs.
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
    """Serve the previous deployment again.

    require may refuse the record. Raises UsageError when there is no such record or its model is
    gone, else as `deploy`.
    """
    state = existing_state(home, name)
    if read_deployment(state) is None:
        raise UsageError(
            "Nothing is serving, so there is nothing to roll back.",
            where=state.root,
            next_step=f"`kawan-usaha start {name}` starts what served last.",
        )
    return again(_there(state, read_previous(state)), home, require=require, say=say)


def start(
    home: Path, name: str, *, require: Require = _nothing, say: Say = logger.info
) -> Deployment:
    """Start what should serve and does not, for example after a reboot; else what served last.

    require may refuse the record. Raises UsageError when there is no such record or its model is
    gone, else as `deploy`.
    """
    state = existing_state(home, name)
    record = _there(state, read_deployment(state) or read_previous(state))
    return again(record, home, require=require, say=say)


def again(
    record: Deployment, home: Path, *, require: Require = _nothing, say: Say = logger.info
) -> Deployment:
    """Deploy a record again; its workers on other machines may not be up yet.

    require may raise before anything is started, as `deploy`'s require_whole; it is not called if
    the record serves already. The watch passes none: what it restarts was checked when a person
    deployed it, and must start without the key's file.
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


def _there(state: StateDirectory, record: Deployment | None) -> Deployment:
    """Return the record if its model still exists."""
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
            found=f"pruned, or never stored: {record.build}",
            next_step="Rebuild it, or download it if it was published: `kawan-usaha download`.",
        )
    return record


def _earlier(state: StateDirectory) -> Deployment | None:
    """Return what serves, should serve, or served last; None if no record can be read."""
    try:
        return read_deployment(state) or read_previous(state)
    except ServingFailed as error:
        logger.warning("%s", error)
        return None


def _admitted(state: StateDirectory, wanted: Deployment, workers: Workers, say: Say) -> bool:
    """Store how the gateway accesses its workers; return whether that changed.

    Raises as `require_workers` if they are required.
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
    logger.info("%s does not answer and is restarted", state.name)
    return False


@contextmanager
def _gpus_of(wanted: Deployment, say: Say) -> Iterator[None]:
    """Hold the GPUs while a model is loaded. A CPU is shared with builds."""
    settings = wanted.settings
    if settings.device == "cpu":
        yield
        return
    with alone_on(settings.device, settings.gpus, f"deploy {wanted.name}", say=say):
        yield


def _versions() -> dict[str, str]:
    return {library: importlib.metadata.version(library) for library in _SERVING_LIBRARIES}
