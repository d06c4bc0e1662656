"""Whatever of a run, or of all that is up in a home, is killed without a warning."""

import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psutil

from flows.prefect_server.local_prefect import LocalPrefect
from tasks.core.process.tree import environment_of

_FLOW_RUN = "PREFECT__FLOW_RUN_ID"
_SUPERVISED = "SUPERVISOR_PROCESS_NAME"
_ENGINE = "prefect.engine"
_SUPERVISOR = "supervisor.supervisord"


def kill(processes: Iterable[psutil.Process]) -> int:
    """Kill all of them and return how many there were; none has time to end another."""
    killed = 0
    for process in list(processes):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
            killed += 1
    return killed


def flow_process(at: LocalPrefect, run: UUID) -> psutil.Process:
    """Return the process that the flow itself runs in."""
    for process in at.mark.processes():
        with suppress(psutil.Error, OSError):
            mine = environment_of(process).get(_FLOW_RUN) == str(run)
            if mine and _ENGINE in process.cmdline():
                return process
    raise LookupError(f"No process of {run}.")


def trainers(at: LocalPrefect) -> list[psutil.Process]:
    """Return the processes that train, without their launcher."""
    return [each for each in everything(at) if "RANK" in environment_of(each)]


def supervised(at: LocalPrefect, name: str) -> psutil.Process:
    """Return the server, or the worker of this pool."""
    for process in at.mark.processes():
        with suppress(psutil.Error, OSError):
            mine = environment_of(process).get(_SUPERVISED) == name
            if mine and is_supervised(process):
                return process
    raise LookupError(f"No process {name}.")


def everything(at: LocalPrefect) -> list[psutil.Process]:
    """Return all that is alive of a home: Prefect, runs, their children and guards."""
    found = {each.pid: each for each in psutil.process_iter() if _belongs(each, at.home)}
    for process in list(found.values()):
        with suppress(psutil.Error):
            found.update({each.pid: each for each in process.children(recursive=True)})
    return [each for each in found.values() if is_alive(each)]


def of_run(at: LocalPrefect) -> list[psutil.Process]:
    """Return all that is alive of runs, their children and guards included."""
    mine = {each.pid: each for each in everything(at) if _FLOW_RUN in environment_of(each)}
    for process in list(mine.values()):
        with suppress(psutil.Error):
            mine.update({each.pid: each for each in process.children(recursive=True)})
    return [each for each in mine.values() if is_alive(each)]


def is_running(at: LocalPrefect, program: str) -> bool:
    """Return whether a program runs for a home, known by one word of its command line."""
    for process in everything(at):
        with suppress(psutil.Error):
            if program in process.cmdline():
                return True
    return False


def is_alive(process: psutil.Process) -> bool:
    """Return whether it runs, and is no zombie."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_supervised(process: psutil.Process) -> bool:
    """Return whether supervisord itself has started it: not one whose parent was killed."""
    parent = process.parent()
    return parent is not None and _SUPERVISOR in parent.cmdline()


def _belongs(process: psutil.Process, home: Path) -> bool:
    return any(str(home) in value for value in environment_of(process).values())
