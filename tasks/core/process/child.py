"""One child process, from its start to the end of its last descendant.

Covers long-running programs whose output is shown while they run, not servers that outlive the
caller. The invariant: when `run_child` returns or raises, no process that the child started is
alive, so that its memory, devices and files are free for the next attempt. If the caller is killed,
a guard does the same in its place.
"""

import enum
import logging
import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import MissingTool
from tasks.core.process.environment import child_environment
from tasks.core.process.guard import Guard
from tasks.core.process.lines import LinePipe
from tasks.core.process.log import OutputLog
from tasks.core.process.oom import OomWatch
from tasks.core.process.said import said
from tasks.core.process.tree import GRACE_S, Mark, ProcessTree

_log = logging.getLogger(__name__)

_TICK_S = 0.1
_SAMPLE_EVERY_S = 0.5
_TAIL_LINES = 200
_KERNELS_FIRST_CHOICE = 1000  # the highest oom_score_adj, see proc(5)


class Cause(enum.Enum):
    """Why a child ended."""

    FINISHED = "finished"
    ERROR = "ended with an error code"
    SIGNAL = "killed by a signal"
    OUT_OF_MEMORY = "killed by the kernel: out of memory"
    TIMEOUT = "stopped at the time limit"


@dataclass(frozen=True)
class ChildResult:
    """How a child ended and what it cost.

    A negative returncode is a signal. `peak_memory_bytes` is the largest resident memory of the
    whole process tree, by sampling; pages shared by several processes count for each.
    """

    returncode: int
    cause: Cause
    tail: tuple[str, ...]
    peak_memory_bytes: int
    wall_s: float
    log: Path | None = None
    """The file with the complete output, if one was kept."""

    @property
    def succeeded(self) -> bool:
        """Whether the child exited by itself with code 0."""
        return self.cause is Cause.FINISHED


def run_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
    timeout_s: float | None = None,
    grace_s: float = GRACE_S,
) -> ChildResult:
    """Run argv in a session of its own, pass on each line of its output, and return how it ended.

    Standard error is merged into standard output; a carriage return ends a line too. `on_line` is
    called in the caller's thread; each line is also appended to the file `log`. `env` is the whole
    environment, by default what `child_environment` makes of the caller's. Whatever ends this call,
    be it an exception from `on_line`, Ctrl-C, SIGTERM or this process being killed, ends the child
    with all its descendants: they are asked to end, and killed after grace_s. In the main thread,
    where Python delivers signals, a signal takes effect at once; in another thread nothing
    interrupts the call.
    Raises MissingTool when the program does not exist.
    """
    started = time.monotonic()
    tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def hear(lines: Sequence[str]) -> None:
        for line in lines:
            tail.append(said(line) or line)
            whole.write(line)
            if on_line is not None:
                on_line(line)

    mark = Mark.fresh()
    watch, peak, sampled = OomWatch(), 0, float("-inf")
    with Guard(mark, grace_s), OutputLog(log, argv) as whole:
        own = child_environment(os.environ) if env is None else env
        tree = ProcessTree(_popen(argv, mark.added_to(own), cwd), mark)
        with LinePipe(tree.leader) as output:
            try:
                _offer_to_the_oom_killer(tree.leader.pid)
                while (running := tree.leader.poll() is None) and not _is_over(started, timeout_s):
                    if time.monotonic() - sampled >= _SAMPLE_EVERY_S:
                        peak, sampled = max(peak, tree.resident_bytes(watch.add)), time.monotonic()
                    hear(output.read(_TICK_S))
            finally:
                tree.end(grace_s)
            hear(output.read_rest())
    returncode = tree.leader.wait()
    return ChildResult(
        returncode=returncode,
        cause=Cause.TIMEOUT if running else _cause(returncode, watch.kills()),
        tail=tuple(tail),
        peak_memory_bytes=peak,
        wall_s=time.monotonic() - started,
        log=log,
    )


def _popen(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise MissingTool(
            "A required program or directory does not exist.",
            where=cwd,
            found=error.filename,
            next_step="Install it, or put the environment's bin directory on PATH.",
        ) from error


def _is_over(started: float, timeout_s: float | None) -> bool:
    return timeout_s is not None and time.monotonic() - started > timeout_s


def _cause(returncode: int, oom_kills: int) -> Cause:
    """Return the cause. The counter overrides the code, since a launcher hides its worker's signal.

    When the kernel kills one worker, its peers exit with codes of their own, so any failure during
    which the counter rose counts as out-of-memory.
    """
    if returncode == 0:
        return Cause.FINISHED
    if oom_kills:
        return Cause.OUT_OF_MEMORY
    return Cause.SIGNAL if returncode < 0 else Cause.ERROR


def _offer_to_the_oom_killer(pid: int) -> None:
    """Make the kernel kill the child, not the caller, when memory runs out.

    Set from outside, right after the start, because code between fork and exec is not safe in a
    process with threads. The child's own children inherit the value.
    """
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(_KERNELS_FIRST_CHOICE))
    except OSError as error:  # the child has ended already, or there is no /proc
        _log.debug("oom_score_adj of %d was not set: %s", pid, error)
