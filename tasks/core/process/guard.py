"""A guard beside marked processes, which ends them when the process that owns them dies.

A process that is killed with SIGKILL cannot end its children, which would go on training, measuring
or serving for nobody. So the owner starts a guard first. The guard, in a session of its own, reads
from a pipe that only the owner can write to. The kernel closes the pipe however the owner ends, and
the guard then ends every process that carries the mark.

    python -m tasks.core.process.guard VARIABLE VALUE GRACE_S
"""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

from tasks.core.home import PROJECT
from tasks.core.process.tree import GRACE_S, Mark, end_processes


class Guard:
    """Ends the processes that carry a mark if this process dies inside the block.

    An exception that leaves the block ends them too; a block that ends normally leaves them
    running. They are asked to end, and killed after grace_s.
    """

    def __init__(self, mark: Mark, grace_s: float = GRACE_S) -> None:
        self._mark = mark
        self._grace_s = grace_s

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", __name__),
                *(self._mark.variable, self._mark.value, str(self._grace_s)),
            ],
            cwd=PROJECT,
            env={"PATH": os.environ.get("PATH", os.defpath)},  # neither a mark nor a token
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._process.kill()
        self._process.communicate()  # closes the pipe, which is what the guard waits for


def main(variable: str, value: str, grace_s: str) -> None:
    """Wait until the owner ends, then end what carries the mark."""
    sys.stdin.buffer.read()
    end_processes(Mark(variable, value).processes, grace_s=float(grace_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
