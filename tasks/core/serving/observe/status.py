"""The status of every deployment of a home directory, checked from outside.

Reads the records, inspects the processes and asks the servers; changes nothing. A record alone
proves nothing: a deployment is healthy only if it generates a token right now.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from tasks.core.errors import ServingFailed
from tasks.core.serving.health import probe
from tasks.core.serving.health.workers import WorkerStatus, look_at_workers
from tasks.core.serving.proof.readiness import EngineReport
from tasks.core.serving.state.directory import StateDirectory, state_directories
from tasks.core.serving.state.files import read_deployment, read_previous
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.process_spec import GATEWAY, PAGE
from tasks.core.serving.supervision.processes import SUPERVISOR, OwnProcess, own_processes
from tasks.core.serving.supervision.supervisord import SupervisedProcess, Supervisor

Health = Literal["healthy", "unsupervised", "unhealthy", "starting", "gone"]
"""healthy: it generated a token, and supervisord supervises the processes.
unsupervised: it generated a token, but nothing would restart a process that dies.
unhealthy: something runs, but it generates no token.
starting: something runs without traffic: it is being started, or its start was interrupted.
gone: it should serve, but nothing runs: it was killed, the machine was rebooted, or it was stopped
for another deployment that failed."""


@dataclass(frozen=True)
class ProcessStatus:
    """The status of a process. state is supervisord's, or "running" or "gone" without one."""

    name: str
    state: str
    pid: int | None
    uptime_s: float | None
    memory_bytes: int | None
    port: int | None


@dataclass(frozen=True)
class DeploymentStatus:
    """The status of a deployment.

    report is the engine's on the model in its memory; None if it has none.
    """

    name: str
    health: Health
    problem: str | None
    deployment: Deployment | None
    processes: tuple[ProcessStatus, ...]
    report: EngineReport | None
    workers: tuple[WorkerStatus, ...] = ()


def status(home: Path, *, generate_s: float = probe.GENERATE_S) -> list[DeploymentStatus]:
    """Return the status of every deployment under home that serves, should serve, or is starting.

    generate_s is how long a deployment may take for one token before it counts as unhealthy.
    """
    found = (_status_of(state, generate_s) for state in state_directories(home))
    return [each for each in found if each is not None]


def _status_of(state: StateDirectory, generate_s: float) -> DeploymentStatus | None:
    own = own_processes(state.root)
    try:
        deployment, previous = read_deployment(state), read_previous(state)
    except ServingFailed as error:
        processes = _processes(own, {}, {})
        return DeploymentStatus(state.name, "unhealthy", str(error), None, processes, None)
    if deployment is None:
        return _without_record(state, previous, own)
    supervised = _supervised(state)
    processes = _processes(own, supervised or {}, _ports_of(deployment))
    health, problem_found, report = _judge(
        state, deployment, runs=bool(own), watched=supervised is not None, generate_s=generate_s
    )
    workers = look_at_workers(deployment, state.workers) if own else ()
    return DeploymentStatus(
        state.name, health, problem_found, deployment, processes, report, workers
    )


def _without_record(
    state: StateDirectory, previous: Deployment | None, own: list[OwnProcess]
) -> DeploymentStatus | None:
    earlier = f"`kawan-usaha start {state.name}` restarts the earlier deployment."
    if own:
        what_now = earlier if previous else f"`kawan-usaha stop {state.name}`."
        problem = f"It has no record yet. If nothing is starting it: {what_now}"
        processes = _processes(own, {}, {})
        return DeploymentStatus(state.name, "starting", problem, None, processes, None)
    if previous is None:
        return None
    problem = f"It was stopped for a new one, which failed or was interrupted. {earlier}"
    processes = _processes(own, {}, _ports_of(previous))
    return DeploymentStatus(state.name, "gone", problem, previous, processes, None)


def _judge(
    state: StateDirectory, deployment: Deployment, *, runs: bool, watched: bool, generate_s: float
) -> tuple[Health, str | None, EngineReport | None]:
    if not runs:
        problem = "None of it runs: it was killed, or the machine was rebooted. "
        problem += f"`kawan-usaha start {state.name}` restarts it."
        return "gone", problem, None
    try:
        probe.require_healthy(state, deployment, generate_s=generate_s)
        report = probe.engine_report(deployment)
    except ServingFailed as error:
        return "unhealthy", str(error), None
    if not watched:
        problem = "supervisord is gone, so a process that dies is not restarted. Deploy again."
        return "unsupervised", problem, report
    return "healthy", None, report


def _supervised(state: StateDirectory) -> Mapping[str, SupervisedProcess] | None:
    try:
        return Supervisor(state.socket).processes()
    except ServingFailed:
        return None


def _ports_of(deployment: Deployment) -> dict[str, int]:
    """Return the processes that a deployment consists of, with their ports."""
    port = deployment.settings.gateway.port
    page = deployment.settings.page
    return {
        **{f"{GATEWAY}-0": port, f"{GATEWAY}-1": port},
        **({PAGE: page.port} if page else {}),
        deployment.slot: deployment.engine_port,
    }


def _processes(
    own: list[OwnProcess],
    supervised: Mapping[str, SupervisedProcess],
    ports: Mapping[str, int],
) -> tuple[ProcessStatus, ...]:
    """Return supervisord and each process that runs or should run."""
    roles = dict.fromkeys([SUPERVISOR, *ports, *supervised, *(each.role for each in own)])
    return tuple(
        _process(
            role,
            [each.process for each in own if each.role == role],
            supervised.get(role),
            ports.get(role),
        )
        for role in roles
    )


def _process(
    role: str,
    processes: list[psutil.Process],
    supervised: SupervisedProcess | None,
    port: int | None,
) -> ProcessStatus:
    """Return the status of a role: the memory of all its processes, the age of the oldest."""
    pid, age, memory = None, -1.0, 0
    now = time.time()
    for process in processes:
        try:
            started, resident = process.create_time(), process.memory_info().rss
        except psutil.Error:  # ended in between
            continue
        memory += resident
        if (seconds := max(0.0, now - started)) > age:  # below 0 once the clock was set back
            pid, age = process.pid, seconds
    state = "gone" if pid is None else "running"
    return ProcessStatus(
        name=role,
        state=supervised.state.lower() if supervised else state,
        pid=pid,
        uptime_s=age if pid is not None else None,
        memory_bytes=memory if pid else None,
        port=port,
    )
