"""One pass over everything that a deployment consists of: what does not answer is restarted.

The engine has to generate a token, the gateway to report what it does, page and workers to answer.
supervisord restarts what has exited; what hangs with its port open, was given up, or was left by a
killed switch is repaired here; other machines repair themselves. The invariant: an engine that is
working on long prompts does not count as hanging.
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tasks.core.errors import EditLost, ServingFailed
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.gateway.control_protocol import GatewayState
from tasks.core.serving.health import probe
from tasks.core.serving.health.workers import look_at_workers
from tasks.core.serving.observe.incidents import Incident
from tasks.core.serving.proof.readiness import read_expectation
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import read_deployment, write_routes
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.state.routes import Routes
from tasks.core.serving.state.slots import other
from tasks.core.serving.supervision.process_spec import GATEWAY, PAGE
from tasks.core.serving.supervision.supervisord import SupervisedProcess, Supervisor

LOOK_EVERY_S = 15.0
_IDLE_S = 30.0
_AT_WORK_S = {"cuda": 120.0, "cpu": 600.0}
"""How long an engine with requests may give no token, since it may be reading a long prompt."""
_LEAK_FACTOR, _LEAK_BYTES = 2.0, 2 * 1024**3
"""An engine that has grown by this factor and by this much since the first pass leaks."""
_PAGE_S = 10.0


@dataclass
class _Seen:
    """What is remembered of a process between passes."""

    pid: int | None = None
    first_bytes: int = 0
    silent_since: float | None = None
    tokens: int = 0
    proven: bool = False


class Looks:
    """Checks one deployment, and remembers what it saw the last time."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._supervisor = Supervisor(state.socket)
        self._gateway = GatewayControl(state.gateway_socket)
        self._seen: dict[str, _Seen] = {}
        self._lost_workers: set[str] = set()

    def all(self) -> Iterator[Incident]:
        """Yield each incident once it is repaired. Raises what keeps the pass from continuing."""
        deployment = read_deployment(self._state)
        if deployment is None:
            return
        processes = self._supervisor.processes()
        names = [f"{GATEWAY}-0", f"{GATEWAY}-1", deployment.slot]
        for name in (*names, *({PAGE} & processes.keys())):
            yield from self._ended(processes[name])
        yield from self._hanging(PAGE, lambda: _require_page(deployment))
        now: list[GatewayState] = []
        yield from self._hanging(GATEWAY, lambda: now.append(self._gateway.state()))
        if not now:
            return  # what its engines do is unknown
        yield from self._left_over(deployment, processes, now[0])
        yield from self._engine(deployment, processes[deployment.slot])
        yield from self._workers(deployment)

    def _ended(self, process: SupervisedProcess) -> Iterator[Incident]:
        seen = self._seen.setdefault(process.name, _Seen())
        if process.state in ("FATAL", "EXITED", "STOPPED"):
            self._supervisor.start(process.group)
            detail = f"supervisord had given it up ({process.state}); restarted"
            yield Incident("given-up", process.name, detail)
        elif seen.pid is not None and process.pid not in (None, seen.pid):
            detail = f"process {seen.pid} has exited; {process.pid} runs"
            yield Incident("died", process.name, detail)
        if process.pid is not None and process.pid != seen.pid:
            self._seen[process.name] = _Seen(process.pid, _resident(process.pid))

    def _hanging(self, name: str, question: Callable[[], object]) -> Iterator[Incident]:
        """Restart a process that does not answer in two passes."""
        seen = self._seen.setdefault(name, _Seen())
        try:
            question()
        except ServingFailed as error:
            now = time.monotonic()
            if seen.silent_since is not None and now - seen.silent_since >= LOOK_EVERY_S:
                self._start_anew(name)
                self._seen[name] = _Seen()
                yield Incident("hangs", name, f"{error.what} Restarted.")
            else:
                seen.silent_since = seen.silent_since or now
            return
        seen.silent_since = None

    def _left_over(
        self, deployment: Deployment, processes: Mapping[str, SupervisedProcess], now: GatewayState
    ) -> Iterator[Incident]:
        """Stop the engine that a killed switch left, once it has no requests."""
        slot = other(deployment.slot)
        if slot in processes and not now.in_flight_of(slot):
            self._supervisor.unload(slot)
            self._state.slot(slot).retire()
            yield Incident("left-over", slot, "an engine without traffic; stopped")

    def _engine(self, deployment: Deployment, process: SupervisedProcess) -> Iterator[Incident]:
        seen = self._seen[deployment.slot]
        if process.pid is None or process.pid != seen.pid:
            return
        size = _resident(process.pid)
        if size > max(seen.first_bytes * _LEAK_FACTOR, seen.first_bytes + _LEAK_BYTES) > 0:
            self._start_anew(deployment.slot)
            detail = f"grown from {seen.first_bytes} to {size} bytes; restarted"
            yield Incident("leaks", deployment.slot, detail)
            return
        expectation = read_expectation(self._state.slot(deployment.slot).expectation)
        try:
            if not seen.proven:  # restarted by supervisord; vLLM accepts no requests before
                engine_of(deployment.settings.engine).prove(deployment.engine_url, expectation)
                seen.proven = True
            probe.require_token(deployment, timeout_s=_IDLE_S)
        except EditLost as error:
            yield self._withdrawn(deployment, error)
        except ServingFailed as error:
            yield from self._silent(deployment, seen, error)
        else:
            answered = self._gateway.state().pieces_of(deployment.slot)
            seen.silent_since, seen.tokens = None, answered

    def _silent(
        self, deployment: Deployment, seen: _Seen, error: ServingFailed
    ) -> Iterator[Incident]:
        """Restart an engine that has given no token for longer than its work explains."""
        if not _accepts(deployment.engine_port):
            return  # it is loading: supervisord has restarted it
        now, gateway = time.monotonic(), self._gateway.state()
        tokens = gateway.pieces_of(deployment.slot)
        if tokens != seen.tokens or seen.silent_since is None:
            seen.silent_since, seen.tokens = now - _IDLE_S, tokens
        at_work = gateway.in_flight_of(deployment.slot) > 0
        patience = _AT_WORK_S[deployment.settings.device] if at_work else _IDLE_S
        if now - seen.silent_since >= patience:
            self._start_anew(deployment.slot)
            detail = f"no token for {now - seen.silent_since:.0f} s; restarted ({error.what})"
            yield Incident("hangs", deployment.slot, detail)

    def _withdrawn(self, deployment: Deployment, error: EditLost) -> Incident:
        """Stop an engine that has lost its edit, and route nowhere."""
        write_routes(self._state, Routes(why_not="The model has lost its edit."))
        self._gateway.follow_routes()
        self._supervisor.stop(deployment.slot)
        return Incident("edit-lost", deployment.slot, str(error))

    def _workers(self, deployment: Deployment) -> Iterator[Incident]:
        """Report once when a worker is lost or serves something else, and once when it returns."""
        for worker in look_at_workers(deployment, self._state.workers):
            was_lost = worker.name in self._lost_workers
            if worker.problem is not None and not was_lost:
                self._lost_workers.add(worker.name)
                yield Incident("worker-lost", worker.name, f"{worker.problem} at {worker.url}")
            elif worker.problem is None and was_lost:
                self._lost_workers.discard(worker.name)
                yield Incident("worker-back", worker.name, f"answers again at {worker.url}")

    def _start_anew(self, name: str) -> None:
        """Kill every copy of a process, which may ignore signals, so that it is restarted."""
        for process in self._supervisor.processes().values():
            if process.group == name and process.pid is not None:
                self._seen.pop(process.name, None)  # its exit is expected
                with suppress(psutil.NoSuchProcess):
                    victim = psutil.Process(process.pid)
                    for each in (*victim.children(recursive=True), victim):
                        each.kill()


def _require_page(deployment: Deployment) -> None:
    """Raise ServingFailed for a page that accepts connections and does not answer."""
    page = deployment.settings.page
    if page is not None and deployment.page_url is not None and _accepts(page.port):
        probe.require_page(deployment.page_url, timeout_s=_PAGE_S)


def _accepts(port: int) -> bool:
    """Return whether a process listens on a loopback port."""
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
