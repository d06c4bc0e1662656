"""The watch of a deployment: checks it every few seconds, and reports what it has repaired.

The checks are in looks.py. Each incident is written to <home>/serving/<name>/logs/
incidents.jsonl, counted by the gateway, and reported. The invariant: nothing is touched while
another process starts, stops or switches the deployment.
"""

import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tasks.core.errors import KawanUsahaError, LockBusy, ServingFailed
from tasks.core.files.locks import holders, locked
from tasks.core.process.log import bounded
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.launch.revive import revive
from tasks.core.serving.observe.incidents import Incident
from tasks.core.serving.observe.looks import LOOK_EVERY_S, Looks
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import read_deployment
from tasks.core.serving.supervision.supervisord import Supervisor

_log = logging.getLogger(__name__)

_PARENT_EVERY_S = 0.5


class DeploymentWatch:
    """Checks one deployment again and again. tell gets each incident."""

    def __init__(self, state: StateDirectory, tell: Callable[[Incident], object]) -> None:
        self._state = state
        self._tell = tell
        self._supervisor = Supervisor(state.socket)
        self._gateway = GatewayControl(state.gateway_socket)
        self._looks = Looks(state)
        self._reviving: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Check for ever."""
        threading.Thread(target=self._keep_supervised, name="supervised", daemon=True).start()
        while True:
            self.look()
            time.sleep(LOOK_EVERY_S)

    def look(self) -> list[Incident]:
        """Check once, repair what is wrong, and return the incidents."""
        found = []
        try:
            with locked(self._state.looking, f"watch {self._state.name}"):
                if holders(self._state.lock):
                    return []  # another process starts, stops or switches it
                found = list(self._looks.all())
        except LockBusy:
            return []
        except KawanUsahaError as error:
            _log.warning("the check failed: %s", error)
        for incident in found:
            self._record(incident)
        return found

    def _keep_supervised(self) -> None:
        """Restart everything when supervisord, the parent of this process, has died.

        At once, and beside the checks, which may wait for an answer: this process may be killed
        next, and then nothing would notice.
        """
        parent, orphaned = os.getppid(), True
        while True:
            orphaned = orphaned or os.getppid() != parent
            if orphaned and not holders(self._state.lock):
                if self._is_supervised():
                    parent, orphaned = os.getppid(), False
                else:
                    self._revive()
            time.sleep(_PARENT_EVERY_S)

    def _is_supervised(self) -> bool:
        try:
            self._supervisor.processes()
        except ServingFailed:
            return read_deployment(self._state) is None  # a stopped one needs none
        return True

    def _revive(self) -> None:
        """Restart everything, including this process. The lock must be free."""
        if self._reviving is not None and self._reviving.poll() is None:
            return
        self._reviving = revive(self._state.root, self._state.root / "revive.log")
        detail = "supervisord was killed; everything is restarted"
        self._record(Incident("died", "supervisord", detail))

    def _record(self, incident: Incident) -> None:
        _log.warning("%s %s: %s", incident.process, incident.kind, incident.detail)
        line = {
            "at": incident.at.isoformat(),
            "kind": incident.kind,
            "process": incident.process,
            "detail": incident.detail,
        }
        with suppress(OSError), bounded(self._state.logs / "incidents.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        with suppress(ServingFailed):
            self._gateway.incident(incident.kind, f"{incident.process}: {incident.detail}")
        self._tell(incident)
