"""Many real processes that do something at one moment: one has imported what they need, and forks.

So twenty of them cost hardly more than one. Each has a file of its own to answer in.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FORKS = """
import json, os, sys, traceback
from pathlib import Path

{script}

def run(number, start, answer, given):
    os.read(start, 1)
    try:
        said = {{"value": work(number, given)}}
    except BaseException as error:
        said = {{"error": type(error).__name__, "text": str(error) or traceback.format_exc()}}
    part = answer.with_suffix(".part")
    part.write_text(json.dumps(said))
    part.rename(answer)

def main():
    count, answers, given = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    start, begin = os.pipe()
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(begin)
            try:
                run(number, start, answers / str(number), given)
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(begin)  # all that wait for a byte read the end of the pipe, at one moment
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    (answers / "ends").write_text(json.dumps(ends))

main()
"""


@dataclass(frozen=True)
class Member:
    """One process of a crowd, after its end: what it returned, or the name of what it raised."""

    value: object
    error: str | None
    text: str
    was_killed: bool


def crowd(
    script: str,
    directory: Path,
    *,
    count: int,
    given: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
) -> list[Member]:
    """Return how `count` processes ended that ran `work(number, given)` of a script at once.

    The script is imported once, before they are forked. One that kills itself is a member too.
    """
    answers = directory / "answers"
    answers.mkdir(parents=True)
    code = _FORKS.format(script=textwrap.dedent(script))
    argv = [sys.executable, "-c", code, str(count), str(answers), json.dumps(dict(given or {}))]
    env = {**os.environ, **(env or {})}
    with subprocess.Popen(argv, env=env, start_new_session=True) as forks:
        try:
            assert forks.wait() == 0
        except BaseException:
            os.killpg(forks.pid, signal.SIGKILL)
            raise
    ends = json.loads((answers / "ends").read_text())
    return [_member(answers / str(number), end) for number, end in enumerate(ends)]


def _member(answer: Path, end: int) -> Member:
    if end == -signal.SIGKILL:
        return Member(None, None, "", was_killed=True)
    assert end == 0, end
    said = json.loads(answer.read_text())
    return Member(said.get("value"), said.get("error"), said.get("text", ""), was_killed=False)
