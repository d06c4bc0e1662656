"""Finding the processes of a deployment, and ending all of them.

A process belongs to a deployment if it carries the deployment's mark in its environment. The mark
is inherited, so any process of the same user can find supervisord, the engines and whatever they
started: also after supervisord was killed, after a start was interrupted before a record was
written, or after pids were reused. A pid file could not.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.core.errors import ServingFailed
from tasks.core.process.environment import child_environment
from tasks.core.process.tree import environment_of

logger = logging.getLogger(__name__)

MARK = "KAWAN_USAHA_SERVING"
SUPERVISOR = "supervisord"

_KILL_WAIT_S = 60.0
_POLL_S = 0.1


@dataclass(frozen=True)
class OwnProcess:
    """A live process of a deployment; role is supervisord's name for it."""

    role: str
    process: psutil.Process


def marked_environment(root: Path, environ: Mapping[str, str], *more: str) -> dict[str, str]:
    """Return the environment for the supervisord of the deployment in root.

    It has no tokens and keys except those that `more` names, and no proxies, to which requests to
    loopback would go.
    """
    return {**child_environment(environ, *more), MARK: str(root)}


def own_processes(root: Path) -> list[OwnProcess]:
    """Return the live processes of the deployment whose state directory is root."""
    found = []
    for process in psutil.process_iter():
        environ = environment_of(process)
        if environ.get(MARK) == str(root):
            # supervisord sets this name for each child, and does not have it itself.
            role = environ.get("SUPERVISOR_PROCESS_NAME", SUPERVISOR)
            found.append(OwnProcess(role, process))
    return found


def end_all(root: Path, *, grace_s: float) -> tuple[OwnProcess, ...]:
    """End every process of the deployment in root; return those that ran.

    supervisord is asked first, which stops its children in order; whatever is left after grace_s
    seconds is killed. Raises ServingFailed if a process survives even that.
    """
    ran = own_processes(root)
    supervisors = [own for own in ran if own.role == SUPERVISOR]
    _signal(supervisors or ran, kill=False)
    if not _gone_within(root, grace_s):
        deadline = time.monotonic() + _KILL_WAIT_S
        # Repeatedly, because a supervisord may have been about to start a child.
        while left := own_processes(root):
            if time.monotonic() > deadline:
                raise _unkillable(root, left)
            _signal(left, kill=True)
            time.sleep(_POLL_S)
    return tuple(ran)


def _gone_within(root: Path, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while own_processes(root):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _signal(targets: list[OwnProcess], *, kill: bool) -> None:
    # supervisord first, so that it does not restart what is killed.
    for own in sorted(targets, key=lambda own: own.role != SUPERVISOR):
        try:
            # psutil compares the start time, so a reused pid is never hit.
            own.process.kill() if kill else own.process.terminate()
        except psutil.NoSuchProcess:
            continue
        logger.debug("%s %s (pid %d)", "killed" if kill else "asked", own.role, own.process.pid)


def _unkillable(root: Path, left: list[OwnProcess]) -> ServingFailed:
    return ServingFailed(
        "Some processes of the deployment could not be ended.",
        where=root,
        found=", ".join(f"{own.role} (pid {own.process.pid})" for own in left),
        next_step="They are stuck in the kernel, most often in a driver; see dmesg.",
    )
