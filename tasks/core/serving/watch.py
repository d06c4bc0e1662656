"""One look at a deployment that serves, every few seconds: what does not answer is replaced.

A real token is asked of the engine, and the gateway is asked what it does. supervisord starts again
what has ended; what hangs with its port open, was given up, or was left by a killed switch is
this module's. Each is an incident: written to <home>/serving/<name>/logs/
incidents.jsonl, counted by the gateway, and told. The invariant: an engine that is at work on long
prompts is not taken for one that hangs, and nothing is touched while another process starts, stops
or switches.
"""

import json
import logging
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tasks.core.errors import EditLost, KawanUsahaError, LockBusy, ServingFailed
from tasks.core.locks import holders, locked
from tasks.core.serving import probe
from tasks.core.serving.control import SupervisedProcess, Supervisor
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.incidents import Incident
from tasks.core.serving.record import Deployment
from tasks.core.serving.report import read_expectation
from tasks.core.serving.revive import revive
from tasks.core.serving.routes import Routes
from tasks.core.serving.slots import other
from tasks.core.serving.state import StateDirectory, read_deployment, write_routes
from tasks.core.serving.tree import GATEWAY

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 15.0
_IDLE_S = 30.0
_AT_WORK_S = {"cuda": 120.0, "cpu": 600.0}
"""How long an engine with requests may give no token: it may be reading a long prompt."""
_LEAK_FACTOR, _LEAK_BYTES = 2.0, 2 * 1024**3
"""An engine that has grown by this factor and by this much since its first look leaks."""


@dataclass
class _Seen:
    """What is remembered of a process from one look to the next."""

    pid: int | None = None
    first_bytes: int = 0
    silent_since: float | None = None
    tokens: int = 0
    proven: bool = False


class Watch:
    """Looks at one deployment again and again. tell gets each incident."""

    def __init__(self, state: StateDirectory, tell: Callable[[Incident], object]) -> None:
        self._state = state
        self._tell = tell
        self._supervisor = Supervisor(state.socket)
        self._gateway = GatewayControl(state.gateway_socket)
        self._seen: dict[str, _Seen] = {}
        self._reviving: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            time.sleep(LOOK_EVERY_S)

    def look(self) -> list[Incident]:
        """Look once, mend what is amiss, and return the incidents."""
        found = []
        try:
            with locked(self._state.looking, f"watch {self._state.name}"):
                if holders(self._state.lock):
                    return []  # somebody starts, stops or switches
                unsupervised = not self._is_supervised()
                found = [] if unsupervised else list(self._look())
        except LockBusy:
            return []
        except KawanUsahaError as error:
            unsupervised = False
            _log.warning("the look failed: %s", error)
        if unsupervised:
            found = self._revived()
        for incident in found:
            self._record(incident)
        return found

    def _is_supervised(self) -> bool:
        try:
            self._supervisor.processes()
        except ServingFailed:
            return read_deployment(self._state) is None  # one that is stopped needs none
        return True

    def _revived(self) -> list[Incident]:
        """Have all of it started anew, which ends this process too. The lock must be free."""
        if self._reviving is not None and self._reviving.poll() is None:
            return []
        self._reviving = revive(self._state.root, self._state.root / "revive.log")
        detail = "supervisord was killed; all of it is started anew"
        return [Incident("died", "supervisord", detail)]

    def _look(self) -> Iterator[Incident]:
        deployment = read_deployment(self._state)
        if deployment is None:
            return
        processes = self._supervisor.processes()
        for name in (f"{GATEWAY}-0", f"{GATEWAY}-1", deployment.slot):
            yield from self._ended(processes[name])
        hangs = list(self._hanging_gateway())
        yield from hangs
        if hangs or self._seen[GATEWAY].silent_since is not None:
            return  # what its engines do is not known
        yield from self._left_over(deployment, processes)
        yield from self._engine(deployment, processes[deployment.slot])

    def _ended(self, process: SupervisedProcess) -> Iterator[Incident]:
        seen = self._seen.setdefault(process.name, _Seen())
        if process.state in ("FATAL", "EXITED", "STOPPED"):
            self._supervisor.start(process.group)
            detail = f"supervisord had given it up ({process.state}); started again"
            yield Incident("given-up", process.name, detail)
        elif seen.pid is not None and process.pid not in (None, seen.pid):
            detail = f"process {seen.pid} has ended; {process.pid} runs"
            yield Incident("died", process.name, detail)
        if process.pid is not None and process.pid != seen.pid:
            self._seen[process.name] = _Seen(process.pid, _resident(process.pid))

    def _left_over(
        self, deployment: Deployment, processes: dict[str, SupervisedProcess]
    ) -> Iterator[Incident]:
        """End the engine of a switch that was killed, once it answers nobody."""
        slot = other(deployment.slot)
        if slot in processes and not self._gateway.state().in_flight_of(slot):
            self._supervisor.unload(slot)
            self._state.slot(slot).retire()
            yield Incident("left-over", slot, "an engine that nothing is routed to; ended")

    def _engine(self, deployment: Deployment, process: SupervisedProcess) -> Iterator[Incident]:
        seen = self._seen[deployment.slot]
        if process.pid is None or process.pid != seen.pid:
            return
        size = _resident(process.pid)
        if size > max(seen.first_bytes * _LEAK_FACTOR, seen.first_bytes + _LEAK_BYTES) > 0:
            self._start_anew(deployment.slot)
            detail = f"grown from {seen.first_bytes} to {size} bytes; started again"
            yield Incident("leaks", deployment.slot, detail)
            return
        expectation = read_expectation(self._state.slot(deployment.slot).expectation)
        try:
            if not seen.proven:  # started anew by supervisord; vLLM lets nobody in before
                engine_of(deployment.settings.engine).prove(deployment.engine_url, expectation)
                seen.proven = True
            probe.require_token(deployment, timeout_s=_IDLE_S)
        except EditLost as error:
            yield self._withdrawn(deployment, error)
        except ServingFailed as error:
            yield from self._silent(deployment, seen, error)
        else:
            seen.silent_since, seen.tokens = None, self._pieces(deployment)

    def _pieces(self, deployment: Deployment) -> int:
        return self._gateway.state().pieces.get(deployment.slot, 0)

    def _silent(
        self, deployment: Deployment, seen: _Seen, error: ServingFailed
    ) -> Iterator[Incident]:
        """Start an engine anew that has given no token for longer than its work explains."""
        now, tokens = time.monotonic(), self._pieces(deployment)
        if not _accepts(deployment.engine_port):
            return  # it is being loaded: supervisord has started it again
        if tokens != seen.tokens or seen.silent_since is None:
            seen.silent_since, seen.tokens = now - _IDLE_S, tokens
        at_work = self._gateway.state().in_flight_of(deployment.slot) > 0
        patience = _AT_WORK_S[deployment.settings.device] if at_work else _IDLE_S
        if now - seen.silent_since >= patience:
            self._start_anew(deployment.slot)
            detail = f"no token for {now - seen.silent_since:.0f} s; started again ({error.what})"
            yield Incident("hangs", deployment.slot, detail)

    def _withdrawn(self, deployment: Deployment, error: EditLost) -> Incident:
        """End an engine that has lost its edit, and route nowhere."""
        write_routes(self._state, Routes(why_not="The model has lost its edit."))
        self._gateway.follow_routes()
        self._supervisor.stop(deployment.slot)
        return Incident("edit-lost", deployment.slot, str(error))

    def _hanging_gateway(self) -> Iterator[Incident]:
        """Start the gateway anew where it says nothing at two looks."""
        seen = self._seen.setdefault(GATEWAY, _Seen())
        try:
            self._gateway.state()
        except ServingFailed as error:
            now = time.monotonic()
            if seen.silent_since is not None and now - seen.silent_since >= LOOK_EVERY_S:
                self._start_anew(GATEWAY)
                self._seen[GATEWAY] = _Seen()
                yield Incident("hangs", GATEWAY, f"{error.what} Started again.")
            else:
                seen.silent_since = seen.silent_since or now
            return
        seen.silent_since = None

    def _start_anew(self, name: str) -> None:
        """Kill every copy of a process, which may heed no signal, and have it started again."""
        for process in self._supervisor.processes().values():
            if process.group == name and process.pid is not None:
                self._seen.pop(process.name, None)  # its end is no news
                with suppress(psutil.NoSuchProcess):
                    victim = psutil.Process(process.pid)
                    for each in (*victim.children(recursive=True), victim):
                        each.kill()

    def _record(self, incident: Incident) -> None:
        _log.warning("%s %s: %s", incident.process, incident.kind, incident.detail)
        line = {
            "at": incident.at.isoformat(),
            "kind": incident.kind,
            "process": incident.process,
            "detail": incident.detail,
        }
        with suppress(OSError), (self._state.logs / "incidents.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        with suppress(ServingFailed):
            self._gateway.incident(incident.kind, f"{incident.process}: {incident.detail}")
        self._tell(incident)


def _accepts(port: int) -> bool:
    """Return whether somebody listens on a loopback port."""
    with socket.socket() as probe_socket:
        probe_socket.settimeout(1.0)
        return probe_socket.connect_ex(("127.0.0.1", port)) == 0


def _resident(pid: int) -> int:
    """Return the resident bytes of a process and its children; 0 once it has ended."""
    try:
        process = psutil.Process(pid)
        return sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0
