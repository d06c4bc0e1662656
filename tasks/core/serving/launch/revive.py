"""Restart a deployment whose supervisord was killed: a program that the watch starts.

    python -m tasks.core.serving.launch.revive STATE_DIRECTORY

It does not carry the mark of the deployment, whose processes it ends first, including the watch.
From then on nothing else would restart the deployment, so it retries if that fails.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

from tasks.core.errors import KawanUsahaError, LockBusy
from tasks.core.home import PROJECT
from tasks.core.process.environment import EVERYTHING, child_environment
from tasks.core.process.log import bounded
from tasks.core.retry import retrying
from tasks.core.serving.launch.deployment import start
from tasks.core.serving.supervision.processes import MARK

_log = logging.getLogger(__name__)

_PAUSES_S = (1.0, 2.0, 5.0, 10.0, *(15.0,) * 40)
_OF_THE_TREE = (f"{MARK}*", "SUPERVISOR_*")


def revive(root: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the program for the deployment of a state directory; do not wait for it."""
    environ = child_environment(os.environ, EVERYTHING, but=_OF_THE_TREE)
    with bounded(log).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(root)],
            env={**environ, "PYTHONPATH": str(PROJECT)},
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def main(root: str) -> None:
    """Start what should serve."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    state = Path(root)
    # Whatever is raised is retried, because nothing else would do it.
    retrying(Exception, _PAUSES_S, on_wait=_log_wait)(_start, state.parents[1], state.name)


def _start(home: Path, name: str) -> None:
    try:
        start(home, name)
    except LockBusy as error:
        _log.warning("another process starts, stops or switches it: %s", error)


def _log_wait(error: Exception, wait_s: float) -> None:
    known = isinstance(error, KawanUsahaError)
    told = "the start failed and is retried in %g s: %s"
    _log.warning(told, wait_s, error, exc_info=None if known else error)


if __name__ == "__main__":
    main(sys.argv[1])
