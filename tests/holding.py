"""Locks that other processes hold, or wait for."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import sys
from pathlib import Path
from tasks.core.files import locks
from tasks.core.process.stopping import raised_when_stopped
locks._SAY_AFTER_S = 0
say = lambda line: print(line, flush=True)
path, what, *shared = sys.argv[1:]
with raised_when_stopped(), locks.locked(
    Path(path), what, shared=bool(shared), wait_s=600, say=say
):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(lock: Path, what: str, *, shared: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that takes the lock, once it has it or has said that it waits."""
    argv = [sys.executable, "-c", _HOLD, str(lock), what, *(["shared"] if shared else [])]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == "held\n" or said.startswith("Waiting"), said
        yield process
        process.kill()
