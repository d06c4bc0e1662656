"""Start a deployment anew whose supervisord was killed: a program that the watch starts.

    python -m tasks.core.serving.revive STATE_DIRECTORY

It carries no mark of the deployment, all of whose processes it ends first, the watch among them.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

from tasks.core.home import PROJECT
from tasks.core.serving.deployment import start
from tasks.core.serving.processes import MARK

_OF_THE_TREE = (MARK, "SUPERVISOR_")


def revive(root: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the program for the deployment of this state directory, and do not wait for it."""
    environ = {n: v for n, v in os.environ.items() if not n.startswith(_OF_THE_TREE)}
    with log.open("ab") as output:
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
    start(state.parents[1], state.name)


if __name__ == "__main__":
    main(sys.argv[1])
