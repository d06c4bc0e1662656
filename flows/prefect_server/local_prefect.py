"""The Prefect server and workers of one home directory: their state on disk, and their processes.

    <home>/prefect/prefect.db     runs, schedules, logs: kept
    <home>/prefect/logs/          of the server, each worker and supervisord: kept
    <home>/prefect/tmp/           temporary files of the workers, while they run

Processes are recognised by a mark in their environment, never by a PID file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.core.process.tree import Mark, environment_of
from tasks.core.serving.state.directory import StateDirectory

PREFECT_MARK = "KAWAN_USAHA_PREFECT"
API_VARIABLE = "PREFECT_API_URL"
_FLOW_RUN = "PREFECT__FLOW_RUN_ID"
_SUPERVISED = "SUPERVISOR_ENABLED"


@dataclass(frozen=True)
class LocalPrefect:
    """The Prefect of one home, running or not, with a worker for each of its pools."""

    home: Path
    pools: Sequence[str]

    @property
    def state(self) -> StateDirectory:
        """The directory of its data, logs and control socket."""
        return StateDirectory(self.home / "prefect")

    @property
    def temporary(self) -> Path:
        """The temporary files of the workers."""
        return self.state.root / "tmp"

    @property
    def mark(self) -> Mark:
        """The mark that all of its processes carry."""
        return Mark(PREFECT_MARK, str(self.state.root))

    def address(self) -> str | None:
        """Return the address of the running API, None where no supervisord runs."""
        for process in self.mark.processes():
            environ = environment_of(process)
            # supervisord sets the second for its children only.
            if API_VARIABLE in environ and _SUPERVISED not in environ:
                return environ[API_VARIABLE]
        return None

    def runs(self) -> list[psutil.Process]:
        """Return the live processes of flow runs."""
        return [each for each in self.mark.processes() if _FLOW_RUN in environment_of(each)]
