"""The steps of a switch: starting, routing, draining, ending.

Their order, and what happens after an error, is in switch.py.
"""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from tasks.core.errors import ServingFailed
from tasks.core.files.durable import write_atomically
from tasks.core.files.locks import Say
from tasks.core.machine.devices import SERVED_FROM, served_from
from tasks.core.model.edit_fingerprint import read_fingerprint
from tasks.core.process.guard import Guard
from tasks.core.process.tree import Mark
from tasks.core.serving.client.key_variables import API_KEY_VARIABLE, API_KEYS_VARIABLE
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.health import probe
from tasks.core.serving.launch.causes import log_tail
from tasks.core.serving.launch.ports import require_ports
from tasks.core.serving.launch.process_tree import (
    configuration,
    gateway_settings,
    page_settings,
)
from tasks.core.serving.launch.startup import EngineStart
from tasks.core.serving.launch.waiting import wait_for_answer
from tasks.core.serving.launch.way_back import keep_log
from tasks.core.serving.proof.readiness import Expectation
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import read_record, write_record, write_routes
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.state.routes import Routes
from tasks.core.serving.supervision.process_spec import GATEWAY, PAGE, WATCH
from tasks.core.serving.supervision.processes import (
    MARK,
    end_all,
    marked_environment,
    own_processes,
)
from tasks.core.serving.supervision.supervisord import Supervisor, start_supervisor

REPLACING = "The model is being replaced by another one."
_STARTING = "The model is being started."
_POLL_S = 0.2
_END_S = 90.0


class Steps:
    """The steps from what serves to `wanted`."""

    def __init__(self, state: StateDirectory, wanted: Deployment, say: Say) -> None:
        self._state = state
        self._wanted = wanted
        self._say = say
        self._supervisor = Supervisor(state.socket)
        self._gateway = GatewayControl(state.gateway_socket)

    # --- starting -----------------------------------------------------------------------------

    def start_all(
        self, wanted: Deployment, before_traffic: Callable[[], None] = lambda: None
    ) -> None:
        """End whatever runs, and start supervisord, the gateway, the engine and the watch.

        before_traffic is called when the engine is proven and gets no traffic yet.
        """
        state = self._state
        write_routes(state, Routes(why_not=_STARTING))
        end_all(state.root, grace_s=_END_S)
        shutil.rmtree(state.logs, ignore_errors=True)
        again = self._prepare(wanted)
        try:
            with Guard(Mark(MARK, str(state.root))):
                self.configure(wanted, wanted)
                self._write_settings(wanted)
                self._start_gateway(wanted)
                EngineStart(state, wanted).run(_expect(state, wanted))
                before_traffic()
                write_record(state, wanted)
                self.route_to(wanted)
                probe.require_healthy(state, wanted)
                self._supervisor.start(WATCH)
                self._start_page(wanted)
        except BaseException:
            write_routes(state, Routes(why_not=_STARTING))
            end_all(state.root, grace_s=_END_S)
            if not again:
                shutil.rmtree(state.slot(wanted.slot).root, ignore_errors=True)
            raise

    def _start_gateway(self, wanted: Deployment) -> None:
        """Start supervisord and the gateway.

        Raises PortTaken if another deployment, started at the same time, was first.
        """
        state = self._state
        try:
            start_supervisor(
                state.supervisor_config,
                directory=state.root,
                logs=state.logs,
                environment=_environment(state, wanted),
            )
            self._supervisor.start(GATEWAY)
            self._wait_for(self._gateway.state, GATEWAY)
        except ServingFailed:
            ours = {own.process.pid for own in own_processes(state.root)}
            require_ports(wanted.settings, ours=ours)
            raise

    def start_engine(self, wanted: Deployment, *, beside: Deployment | None) -> None:
        """Start the engine of `wanted` in its slot until it has proven what it holds."""
        state = self._state
        self._supervisor.unload(wanted.slot)  # left by a switch that was killed
        self._prepare(wanted)
        self.configure(beside or wanted, *filter(None, (beside, wanted)))
        self._supervisor.load(wanted.slot)
        EngineStart(state, wanted).run(_expect(state, wanted))

    def _prepare(self, wanted: Deployment) -> bool:
        """Prepare its slot; return whether it was proven there before."""
        slot, proven = self._state.slot(wanted.slot), read_record(self._state, wanted.slot)
        again = proven is not None and proven.same_service(wanted)
        slot.prepare(wanted.model, again=again)
        return again

    def configure(self, gateway_of: Deployment, *engines: Deployment) -> None:
        """Write the supervisord.conf; running processes stay as they are."""
        self._state.logs.mkdir(exist_ok=True)
        text = configuration(self._state, gateway_of.settings, engines)
        write_atomically(self._state.supervisor_config, text)

    # --- routing ------------------------------------------------------------------------------

    def route_to(self, deployment: Deployment) -> None:
        """Route requests to the engine of a deployment and its workers."""
        write_routes(self._state, Routes(route=deployment.route))
        self._gateway.follow_routes()

    def route_back_to(self, earlier: Deployment) -> None:
        """Route to what still runs. A gateway that is down right now will read the file itself."""
        with suppress(ServingFailed):
            self.route_to(earlier)

    def route_nowhere(self, why: str) -> None:
        """Have the gateway tell clients to retry later."""
        write_routes(self._state, Routes(why_not=why))
        self._gateway.follow_routes()

    # --- ending -------------------------------------------------------------------------------

    def drain(self, deployment: Deployment) -> int:
        """Wait for the answers in progress; return how many are left after the time limit."""
        limit_s = deployment.settings.drain_s
        deadline, told = time.monotonic() + limit_s, False
        while left := self._gateway.state().in_flight_of(deployment.slot):
            if time.monotonic() >= deadline:
                break
            if not told:
                self._say(f"Waiting for {left} answers of the earlier model, at most {limit_s} s.")
                told = True
            time.sleep(_POLL_S)
        return left

    def retire(self, earlier: Deployment) -> int:
        """End the earlier engine after its last answers; return how many were cut off."""
        cut_off = self.drain(earlier)
        self._supervisor.unload(earlier.slot)
        self._state.slot(earlier.slot).retire()
        return cut_off

    def abandon(self, wanted: Deployment) -> None:
        """End the engine that failed, and keep its log."""
        self._supervisor.unload(wanted.slot)
        keep_log(self._state, wanted.slot)
        shutil.rmtree(self._state.slot(wanted.slot).root, ignore_errors=True)

    # --- gateway and page ---------------------------------------------------------------------

    def renew(self, earlier: Deployment) -> None:
        """Restart gateway and page if their settings differ from those of `earlier`."""
        self._renew_gateway(earlier)
        self._renew_page(earlier)

    def _renew_gateway(self, earlier: Deployment) -> None:
        """Restart the gateway's copies, one after the other."""
        old, new = (gateway_settings(self._state, each) for each in (earlier, self._wanted))
        if old == new:
            return
        self._write_settings(self._wanted)
        self._supervisor.restart_copies(GATEWAY)
        self._wait_for(self._gateway.state, GATEWAY)

    def _renew_page(self, earlier: Deployment) -> None:
        """Restart, start or stop the page."""
        if page_settings(earlier) == page_settings(self._wanted):
            return
        if self._wanted.settings.page is None:
            self._supervisor.unload(PAGE)
            return
        self._write_settings(self._wanted)
        self.configure(self._wanted, self._wanted)
        self._supervisor.load(PAGE)
        self._start_page(self._wanted)

    def _start_page(self, wanted: Deployment) -> None:
        """Start the page, if there is one. Only report a fault: the model serves without it."""
        if wanted.page_url is None:
            return
        self._supervisor.start(PAGE)
        try:
            self._wait_for(partial(probe.require_page, wanted.page_url), PAGE)
        except ServingFailed as error:
            self._say(f"Attention: the page does not answer. {error}")

    def _write_settings(self, deployment: Deployment) -> None:
        """Write the settings that the gateway and the page start with from now on."""
        settings = gateway_settings(self._state, deployment)
        write_atomically(self._state.gateway, settings.model_dump_json(indent=2))
        if (page := page_settings(deployment)) is not None:
            write_atomically(self._state.page, page.model_dump_json(indent=2))

    def _wait_for(self, question: Callable[[], object], process: str) -> None:
        """Return once the process answers. Raises ServingFailed if it exits or takes too long."""

        def require_alive() -> None:
            copies = [p for p in self._supervisor.processes().values() if p.group == process]
            if any(p.state in ("BACKOFF", "FATAL", "EXITED") for p in copies):
                raise self._not_started(process)

        wait_for_answer(
            question,
            deadline=time.monotonic() + self._wanted.settings.startup_timeout_s,
            require_alive=require_alive,
            late=lambda _: self._not_started(process),
        )

    def _not_started(self, process: str) -> ServingFailed:
        copies = (p.name for p in self._supervisor.processes().values() if p.group == process)
        log = next(copies, process)
        return ServingFailed(
            f"The {process} did not start.",
            where=self._state.log_of(log),
            found=log_tail(self._state, log),
            next_step="Its log above says why; usually the address, or a file that it reads.",
        )


def _expect(state: StateDirectory, wanted: Deployment) -> Expectation:
    """Write down what the engine must prove."""
    expectation = Expectation(
        build=wanted.build,
        template=wanted.template,
        edit=wanted.expected_edit,
        fingerprint=read_fingerprint(wanted.model) if wanted.expected_edit else None,
    )
    write_atomically(state.slot(wanted.slot).expectation, expectation.model_dump_json())
    return expectation


def _environment(state: StateDirectory, wanted: Deployment) -> dict[str, str]:
    devices = served_from(wanted.settings.device, wanted.settings.gpus)
    environ = marked_environment(
        state.root, os.environ, API_KEYS_VARIABLE, API_KEY_VARIABLE, "PREFECT_API_URL"
    )
    return {**environ, SERVED_FROM: devices}
