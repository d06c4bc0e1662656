"""Stop the demo at random moments, and measure the seconds until nothing of it is alive.

    python -m tests.benchmarks.bench_stop --times 10 --seed 1

Ctrl-C (SIGINT to the process alone, as `kill -INT` sends it), SIGTERM and SIGKILL in turn. Each run
resumes what the one before left; a demo that came to its end begins anew, in an empty home or in a
copy of the one that `--from` names, in which the stages to be stopped are not built yet.
"""

import argparse
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.core.process.tree import environment_of
from tasks.core.serving.supervision.processes import MARK
from tests.recovery.processes import is_alive

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
GIVE_UP_S = 120.0
_STAGE = re.compile(r"\b(download|merge|edit|prepare|finetune|fuse|evaluate|publish|deploy)\b")


@dataclass(frozen=True)
class Stop:
    """One stop: when, of what, and how long it took until nothing was alive."""

    after_s: float
    stage: str
    signal: str
    code: int
    seconds: float
    said: str


def main() -> None:
    """Print a line a stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest-s", type=float, default=60.0)
    parser.add_argument("--from", dest="begin", type=Path, help="a home to begin with a copy of")
    options = parser.parse_args()
    moments = random.Random(options.seed)  # noqa: S311 - reproducible on purpose
    print("| after | stage | signal | exit code | seconds until nothing was alive |")
    print("|---:|---|---|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-stop-") as name:
        home = Path(name) / "home"
        begin(home, options.begin)
        for number in itertools.islice(itertools.cycle(SIGNALS), options.times):
            stop = stopped(home, number, moments.uniform(3.0, options.longest_s), options.begin)
            print(
                f"| {stop.after_s:.0f} s | {stop.stage} | {stop.signal} | {stop.code} "
                f"| {stop.seconds:.1f} |",
                flush=True,
            )
            print(f"    {stop.said}", file=sys.stderr, flush=True)
        end(home)


def begin(home: Path, template: Path | None) -> None:
    """Put down the home that a demo begins in."""
    if template is not None:
        shutil.copytree(template, home, symlinks=True)


def stopped(home: Path, number: signal.Signals, after_s: float, template: Path | None) -> Stop:
    """Run the demo for so long, send the signal, and return what came of it."""
    log = home.with_name("log.txt")
    while True:
        with log.open("w") as output:
            process = subprocess.Popen(
                [COMMAND, "demo"],
                env={**os.environ, "KAWAN_USAHA_HOME": str(home)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            break
        end(home)  # it came to its end before the moment: begin anew
        begin(home, template)
    said = _STAGE.findall(log.read_text())
    # What serves already is a finished stage, and stays.
    serves = (home / "serving/demo/deployment.json").exists()
    serving = {each.pid for each in _of(home) if serves and MARK in environment_of(each)}
    alive = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    begun = time.monotonic()
    while process.poll() is None or any(map(is_alive, alive)) or _left(home, serving):
        if time.monotonic() - begun > GIVE_UP_S:
            sys.exit(f"still alive after {GIVE_UP_S:.0f} s: {_left(home, serving)}")
        time.sleep(0.05)
    seconds = time.monotonic() - begun
    lines = [line for line in log.read_text().splitlines() if "stopped by" in line]
    return Stop(
        after_s=after_s,
        stage=said[-1] if said else "start",
        signal=number.name,
        code=process.returncode,
        seconds=seconds,
        said=lines[-1] if lines else "",
    )


def end(home: Path) -> None:
    """Stop what serves, and forget everything that was built."""
    env = {**os.environ, "KAWAN_USAHA_HOME": str(home)}
    subprocess.run([COMMAND, "stop", "demo"], env=env, check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


def _left(home: Path, serving: set[int]) -> list[psutil.Process]:
    return [process for process in _of(home) if process.pid not in serving]


def _of(home: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        if is_alive(process) and any(
            str(home) in value for value in environment_of(process).values()
        ):
            yield process


if __name__ == "__main__":
    main()
