"""Who can be killed: the processes of a home by their kind, and the stage that works there now.

The stage is known by the locks that a run holds, so that nothing has to be asked of a server that
may have been killed.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal
from uuid import UUID

import psutil

from tasks.core.files.locks import holders, holders_in
from tasks.core.process.tree import environment_of
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.supervision.processes import own_processes
from tests.recovery.machine import Machine
from tests.recovery.processes import flow_process, is_alive, is_supervised, supervised

Stage = Literal[
    "between",
    "download",
    "merge",
    "edit",
    "prepare",
    "finetune",
    "fuse",
    "evaluate",
    "publish",
    "deploy",
    "served",
]
"""between: a run that works on no stage just now, such as one that starts. served: all is done."""
Kind = Literal["flow", "child", "worker", "server", "gateway", "engine", "watch", "supervisord"]

POOL = "kawan-cpu"
_GUARD = "tasks.core.process.guard"
_STORED = ("download", "merge", "edit", "prepare", "finetune", "fuse", "evaluate")


def stage_at_work(home: Path, state: StateDirectory) -> Stage:
    """Return the stage that a run is at, by the locks that are held now."""
    held = holders_in(home / "store/.locks")
    built = {each.what.rpartition(": ")[2] for each in held if not each.shared}
    for stage in _STORED:  # a merge that waits for its downloads comes after them
        if stage in built:
            return stage
    if holders(state.lock):
        return "deploy"
    if any(each.what.endswith(": read") for each in held):
        return "publish"
    return "between"


def run_process(machine: Machine, run: UUID) -> psutil.Process | None:
    """Return the process of the flow, None where it has none."""
    try:
        return flow_process(machine.prefect.at, run)
    except LookupError:
        return None


def victims(
    machine: Machine, run: UUID | None, state: StateDirectory
) -> dict[Kind, list[psutil.Process]]:
    """Return the live processes of each kind that there is now; without a run, of what serves."""
    found: dict[Kind, list[psutil.Process]] = {}
    if run is not None:
        flow = run_process(machine, run)
        found["flow"] = [] if flow is None else [flow]
        found["child"] = [] if flow is None else list(_children(flow))
        for kind, name in _PREFECT.items():
            with suppress(LookupError):
                found[kind] = [supervised(machine.prefect.at, name)]
    for own in own_processes(state.root):
        kind = _SERVING.get(own.role.partition("-")[0])
        if kind is not None and _is_first(own.role, own.process):
            found.setdefault(kind, []).append(own.process)
    alive = {kind: [each for each in them if is_alive(each)] for kind, them in found.items()}
    return {kind: sorted(them, key=lambda each: each.pid) for kind, them in alive.items() if them}


_PREFECT: dict[Kind, str] = {"worker": POOL, "server": "server"}
_SERVING: dict[str, Kind] = {
    "gateway": "gateway",
    "blue": "engine",
    "green": "engine",
    "watch": "watch",
    "supervisord": "supervisord",
}


def _children(flow: psutil.Process) -> Iterator[psutil.Process]:
    """Yield what the flow has started, but for the guards.

    A missing guard is noticed by nobody until its owner is killed as well: two faults at once.
    """
    with suppress(psutil.Error):
        for child in flow.children(recursive=True):
            with suppress(psutil.Error):
                if not _serves(child) and _GUARD not in child.cmdline():
                    yield child


def _serves(process: psutil.Process) -> bool:
    return "KAWAN_USAHA_SERVING" in environment_of(process)


def _is_first(role: str, process: psutil.Process) -> bool:
    """Return whether it is supervisord, or a process that this has started itself."""
    with suppress(psutil.Error):
        return role == "supervisord" or is_supervised(process)
    return False
