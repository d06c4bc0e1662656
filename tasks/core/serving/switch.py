"""From the deployment that serves to the one that is wanted, without a gap where there is room.

Three ways: `first`, when nothing serves or the address changes; `side-by-side`, when the old one
serves until the new one is proven; `replace`, when the two do not fit beside each other. The
invariant: a route leads only to what is proven, and after an error the earlier one serves, or the
error says why it does not.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from tasks.core.devices import SERVED_FROM, served_from
from tasks.core.edit_fingerprint import read_fingerprint
from tasks.core.errors import KawanUsahaError, ServingFailed
from tasks.core.files import write_atomically
from tasks.core.locks import Say
from tasks.core.process.guard import Guard
from tasks.core.process.tree import Mark
from tasks.core.serving import probe
from tasks.core.serving.causes import log_tail
from tasks.core.serving.control import Supervisor, start_supervisor
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.key_variables import KEY_VARIABLE, KEYS_VARIABLE
from tasks.core.serving.process_spec import GATEWAY, PAGE, WATCH
from tasks.core.serving.processes import MARK, end_all, marked_environment
from tasks.core.serving.record import Deployment, Switched
from tasks.core.serving.report import Expectation
from tasks.core.serving.routes import Routes
from tasks.core.serving.shadow import replay
from tasks.core.serving.slots import Slot
from tasks.core.serving.startup import EngineStart
from tasks.core.serving.state import StateDirectory, read_record, write_record, write_routes
from tasks.core.serving.tree import configuration, gateway_settings, page_settings
from tasks.core.serving.workers import require_workers

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_END_S = 90.0
_STARTING = "The model is being started."
_REPLACING = "The model is being replaced by another one."


class Switch:
    """One way from what serves (`earlier`, None for nothing) to what is wanted."""

    def __init__(
        self, state: StateDirectory, wanted: Deployment, earlier: Deployment | None, say: Say
    ) -> None:
        self._state = state
        self._wanted = wanted
        self._earlier = earlier
        self._say = say
        self._supervisor = Supervisor(state.socket)
        self._gateway = GatewayControl(state.gateway_socket)

    def run(self) -> Deployment:
        """Return what is wanted once it serves."""
        earlier = self._earlier
        if earlier is None or not self._serves(earlier) or _moved(earlier, self._wanted):
            how = self._first()
        elif earlier.same_engine(self._wanted):
            return self._new_gateway(earlier)
        elif self._wanted.settings.switch == "side-by-side":
            how = self._beside(earlier)
        else:
            how = self._in_place_of(earlier)
        return self._wanted.model_copy(update={"switched": how})

    # --- the three ways ---------------------------------------------------------------------

    def _first(self) -> Switched:
        began = time.monotonic()
        try:
            self._start_all(self._wanted)
        except BaseException as error:
            self._fall_back(error)
            raise
        if self._earlier is not None and self._earlier.slot != self._wanted.slot:
            self._state.slot(self._earlier.slot).retire()
        gap_s = time.monotonic() - began if self._earlier else 0.0
        return Switched(how="first", gap_s=gap_s)

    def _beside(self, earlier: Deployment) -> Switched:
        wanted = self._wanted
        try:
            require_workers(wanted)
            self._start_engine(wanted, beside=earlier)
            shadow = replay(self._gateway.recent(), wanted, earlier, say=self._say)
            write_record(self._state, wanted)
            self._route_to(wanted)
        except BaseException as error:
            self._route_back_to(earlier)
            self._abandon(wanted)
            _add(error, f"The earlier deployment serves on at {earlier.base_url}.")
            raise
        cut_off = self._retire(earlier)
        self._renew_gateway(earlier)
        self._renew_page(earlier)
        return Switched(how="side-by-side", cut_off=cut_off, shadow=shadow)

    def _in_place_of(self, earlier: Deployment) -> Switched:
        wanted, began = self._wanted, time.monotonic()
        require_workers(wanted)
        asked = self._gateway.recent()
        try:
            self._route_nowhere(_REPLACING)
            cut_off = self._drain(earlier)
            self._supervisor.unload(earlier.slot)
            self._start_engine(wanted, beside=None)
            shadow = replay(asked, wanted, earlier, say=self._say)
            write_record(self._state, wanted)
            self._route_to(wanted)
        except BaseException as error:
            self._abandon(wanted)
            if earlier.slot in self._supervisor.processes():  # it was not ended yet
                self._route_back_to(earlier)
            else:
                self._start_again(earlier, error)
            raise
        gap_s = time.monotonic() - began
        self._say(f"Clients were told to come back for {gap_s:.0f} s.")
        self._state.slot(earlier.slot).retire()
        self._renew_gateway(earlier)
        self._renew_page(earlier)
        return Switched(how="replace", gap_s=gap_s, cut_off=cut_off, shadow=shadow)

    def _new_gateway(self, earlier: Deployment) -> Deployment:
        """Keep the engine, and start the gateway anew with the settings that are wanted."""
        kept = self._wanted.model_copy(
            update={
                **{name: getattr(earlier, name) for name in ("slot", "engine_port", "started_at")},
                "switched": Switched(how="side-by-side"),
            }
        )
        write_record(self._state, kept)
        write_routes(self._state, Routes(route=kept.route))
        self._configure(kept, kept)
        self._renew_gateway(earlier)
        self._renew_page(earlier)
        probe.require_healthy(self._state, kept)
        return kept

    # --- the parts of a way -------------------------------------------------------------------

    def _start_all(self, wanted: Deployment) -> None:
        """End whatever runs, and start supervisord, the gateway, the engine and the watch."""
        state = self._state
        write_routes(state, Routes(why_not=_STARTING))
        end_all(state.root, grace_s=_END_S)
        _remove_logs(state)
        state.slot(wanted.slot).prepare(wanted.model)
        try:
            with Guard(Mark(MARK, str(state.root))):
                self._configure(wanted, wanted)
                self._write_settings(wanted)
                start_supervisor(
                    state.supervisor_config,
                    directory=state.root,
                    logs=state.logs,
                    environment=_environment(state, wanted),
                )
                require_workers(wanted)
                self._supervisor.start(GATEWAY)
                self._wait_for_gateway()
                EngineStart(state, wanted).run(_expect(state, wanted))
                write_record(state, wanted)
                self._route_to(wanted)
                probe.require_healthy(state, wanted)
                self._supervisor.start(WATCH)
                self._start_page(wanted)
        except BaseException:
            write_routes(state, Routes(why_not=_STARTING))
            end_all(state.root, grace_s=_END_S)
            shutil.rmtree(state.slot(wanted.slot).root, ignore_errors=True)
            raise

    def _start_engine(self, wanted: Deployment, *, beside: Deployment | None) -> None:
        state = self._state
        self._supervisor.unload(wanted.slot)  # what a switch that was killed has left
        state.slot(wanted.slot).prepare(wanted.model)
        self._configure(beside or wanted, *filter(None, (beside, wanted)))
        self._supervisor.load(wanted.slot)
        EngineStart(state, wanted).run(_expect(state, wanted))

    def _configure(self, gateway_of: Deployment, *engines: Deployment) -> None:
        """Write which processes there are; those that run go on as they are."""
        self._state.logs.mkdir(exist_ok=True)
        text = configuration(self._state, gateway_of.settings, engines)
        write_atomically(self._state.supervisor_config, text)

    def _write_settings(self, deployment: Deployment) -> None:
        """Write what the gateway and the page are started with from now on."""
        settings = gateway_settings(self._state, deployment)
        write_atomically(self._state.gateway, settings.model_dump_json(indent=2))
        if (page := page_settings(deployment)) is not None:
            write_atomically(self._state.page, page.model_dump_json(indent=2))

    def _route_to(self, deployment: Deployment) -> None:
        write_routes(self._state, Routes(route=deployment.route))
        self._gateway.follow_routes()

    def _route_back_to(self, earlier: Deployment) -> None:
        """Route to what still runs. A gateway that is gone just now will read the file itself."""
        with suppress(ServingFailed):
            self._route_to(earlier)

    def _route_nowhere(self, why: str) -> None:
        write_routes(self._state, Routes(why_not=why))
        self._gateway.follow_routes()

    def _drain(self, deployment: Deployment) -> int:
        """Wait for the answers in progress; return how many are left when their time is over."""
        limit_s = deployment.settings.drain_s
        deadline, left = (
            time.monotonic() + limit_s,
            self._gateway.state().in_flight_of(deployment.slot),
        )
        if left:
            self._say(f"Waiting for {left} answers of the earlier model, {limit_s} s at most.")
        while left and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            left = self._gateway.state().in_flight_of(deployment.slot)
        return left

    def _retire(self, earlier: Deployment) -> int:
        cut_off = self._drain(earlier)
        self._supervisor.unload(earlier.slot)
        self._state.slot(earlier.slot).retire()
        return cut_off

    def _renew_gateway(self, earlier: Deployment) -> None:
        """Start the gateway's copies anew, one after the other, where its settings are others."""
        old, new = (gateway_settings(self._state, each) for each in (earlier, self._wanted))
        if old == new:
            return
        self._write_settings(self._wanted)
        self._supervisor.restart_copies(GATEWAY)
        self._wait_for_gateway()

    def _renew_page(self, earlier: Deployment) -> None:
        """Start the page anew, or for the first time, or end it, where it is another one now."""
        if page_settings(earlier) == page_settings(self._wanted):
            return
        if self._wanted.settings.page is None:
            self._supervisor.unload(PAGE)
            return
        self._write_settings(self._wanted)
        self._configure(self._wanted, self._wanted)
        self._supervisor.load(PAGE)
        self._start_page(self._wanted)

    def _start_page(self, wanted: Deployment) -> None:
        """Start the page, if there is to be one. The model serves without it: a fault is told."""
        if wanted.page_url is None:
            return
        self._supervisor.start(PAGE)
        try:
            self._wait_until(partial(probe.require_page, wanted.page_url), PAGE)
        except ServingFailed as error:
            self._say(f"Attention: the page does not answer. {error}")

    def _abandon(self, wanted: Deployment) -> None:
        """End the engine that is not to serve, and keep its log."""
        self._supervisor.unload(wanted.slot)
        _keep_log(self._state, wanted.slot)
        shutil.rmtree(self._state.slot(wanted.slot).root, ignore_errors=True)

    # --- back to the earlier one ----------------------------------------------------------------

    def _fall_back(self, error: BaseException) -> None:
        """Start the earlier deployment again, if there was one, and say what became of it.

        Not after Ctrl-C: whoever stops does not want to wait until a model is loaded.
        """
        earlier = self._earlier
        if earlier is None or read_record(self._state, earlier.slot) is None:
            return
        _keep_log(self._state, self._wanted.slot)
        self._once_more(earlier, error, lambda: self._start_all(earlier))

    def _start_again(self, earlier: Deployment, error: BaseException) -> None:
        def start() -> None:
            self._start_engine(earlier, beside=None)
            write_record(self._state, earlier)
            self._route_to(earlier)

        self._once_more(earlier, error, start)

    def _once_more(
        self, earlier: Deployment, error: BaseException, start: Callable[[], None]
    ) -> None:
        again = f"`kawan-usaha start {self._state.name}` starts it again."
        if not isinstance(error, Exception):
            _add(error, f"The earlier deployment was ended for this one: {again}")
            return
        try:
            start()
        except (KawanUsahaError, OSError) as second:
            self._state.slot(earlier.slot).root.mkdir(exist_ok=True)  # the start has removed it
            write_record(self._state, earlier)
            reason = second.what if isinstance(second, KawanUsahaError) else str(second)
            _add(error, f"The earlier deployment does not serve either: {reason} {again}")
        except BaseException:
            _add(error, f"The earlier deployment does not serve: {again}")
            raise
        else:
            logs = f"the logs of the one that failed are in {self._state.failed_logs}."
            _add(error, f"The earlier deployment serves again; {logs}")

    # --- what is there ------------------------------------------------------------------------

    def _serves(self, earlier: Deployment) -> bool:
        try:
            route = self._gateway.state().route
            runs = earlier.slot in self._supervisor.processes()
            return runs and route is not None and route.slot == earlier.slot
        except ServingFailed:
            return False

    def _wait_for_gateway(self) -> None:
        self._wait_until(self._gateway.state, GATEWAY)

    def _wait_until(self, question: Callable[[], object], process: str) -> None:
        """Return when the process answers; raise ServingFailed when it has ended, or late."""
        deadline = time.monotonic() + self._wanted.settings.startup_timeout_s
        while True:
            try:
                question()
                return
            except ServingFailed as error:
                copies = [p for p in self._supervisor.processes().values() if p.group == process]
                is_over = time.monotonic() > deadline
                if is_over or any(p.state in ("BACKOFF", "FATAL", "EXITED") for p in copies):
                    raise _not_started(self._state, process, copies[0].name) from error
            time.sleep(_POLL_S)


def _moved(earlier: Deployment, wanted: Deployment) -> bool:
    """Return whether clients have to come to another address."""
    old, new = earlier.settings.gateway, wanted.settings.gateway
    return (old.host, old.port) != (new.host, new.port)


def _expect(state: StateDirectory, wanted: Deployment) -> Expectation:
    """Put down what the engine must prove."""
    expectation = Expectation(
        build=wanted.build,
        template=wanted.template,
        edit=wanted.expected_edit,
        fingerprint=read_fingerprint(wanted.model) if wanted.expected_edit else None,
    )
    write_atomically(state.slot(wanted.slot).expectation, expectation.model_dump_json())
    return expectation


def _environment(state: StateDirectory, wanted: Deployment) -> dict[str, str]:
    settings = wanted.settings
    devices = served_from(settings.device, settings.gpus)
    secrets = [KEYS_VARIABLE, KEY_VARIABLE, *(worker.token_variable for worker in settings.workers)]
    environ = marked_environment(state.root, os.environ, *secrets, "PREFECT_API_URL")
    return {**environ, SERVED_FROM: devices}


def _remove_logs(state: StateDirectory) -> None:
    shutil.rmtree(state.logs, ignore_errors=True)


def _keep_log(state: StateDirectory, slot: Slot) -> None:
    """Keep the log of an engine that failed, where the next start of the slot leaves it alone."""
    if state.log_of(slot).exists():
        shutil.rmtree(state.failed_logs, ignore_errors=True)
        state.failed_logs.mkdir()
        for log in (state.log_of(slot), state.log_of("supervisord")):
            shutil.copy2(log, state.failed_logs)


def _not_started(state: StateDirectory, process: str, log: str) -> ServingFailed:
    return ServingFailed(
        f"The {process} did not start.",
        where=state.log_of(log),
        found=log_tail(state, log),
        next_step="Its log above says why: most often the address, or a file that it reads.",
    )


def _add(error: BaseException, sentence: str) -> None:
    logger.warning("%s", sentence)
    if isinstance(error, KawanUsahaError):
        error.next_step = " ".join(filter(None, (error.next_step, sentence)))
    else:
        error.add_note(sentence)
