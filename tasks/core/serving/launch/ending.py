"""Ending a deployment: for good (`stop`), or until it is started again (`pause`)."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.core.files.locks import remove_lock
from tasks.core.files.temporary import remove_abandoned
from tasks.core.serving.state.directory import changing, existing_state
from tasks.core.serving.state.slots import SLOTS
from tasks.core.serving.supervision.processes import end_all
from tasks.core.serving.supervision.supervisord import forget_supervisor

_STOP_GRACE_S = 90.0
_LOCK_S = 900.0
"""A switch lasts as long as the model takes to load and the last answers to finish."""


@dataclass(frozen=True)
class StoppedDeployment:
    """What `stop` ended: the roles that ran, including supervisord; none if it was down."""

    name: str
    ended: tuple[str, ...]


def stop(home: Path, name: str) -> StoppedDeployment:
    """End a deployment and remove its state; the logs stay.

    Works from any process of the same user, also after supervisord was killed, after a reboot, and
    after an interrupted start. Raises UsageError when there is no deployment of this name.
    """
    state = existing_state(home, name)
    with changing(state, f"stop {name}", wait_s=_LOCK_S):
        # The routes go first: from here on it must not count as a deployment that serves.
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
    """End the processes of a deployment, and keep what `start` needs."""
    state = existing_state(home, name)
    with changing(state, f"pause {name}", wait_s=_LOCK_S):
        return StoppedDeployment(
            name, tuple(own.role for own in end_all(state.root, grace_s=_STOP_GRACE_S))
        )
