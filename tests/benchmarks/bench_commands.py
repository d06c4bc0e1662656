"""What the commands that only look take, beside those of an earlier revision.

    python -m tests.benchmarks.bench_commands [--quick]

Each command is run in turn by this tree and by the earlier one, in a home of its own that holds
nothing but the measurement of the CPU; the shortest of its times counts. A line of JSON a row:
`ratio` is our time in shares of the earlier one, `limit_s` what the project allows itself.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.core.machine.speed import measured_cpu_speed
from tests.benchmarks.earlier import HERE, Took, checkout, run_in, show_row

RUN = "from flows.cli import main; main()"
ROWS = {
    "--help": 0.35,
    "status": 0.35,
    "store list": 0.35,
    "plan kawan-usaha-13b": 1.0,
    "plan demo": 1.0,
}
"""Each command, and the seconds that it may take. The earlier revision cannot plan the demo without
its Hub, and ends with an error once it has asked: it is not slower than one that goes on."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="twice each instead of ten times")
    times = 2 if parser.parse_args(arguments).quick else 10
    with tempfile.TemporaryDirectory() as home, checkout() as earlier:
        measured_cpu_speed(Path(home))
        for words, limit_s in ROWS.items():
            ours, theirs = _both(earlier, words, times, home)
            show_row(
                words,
                [each.wall_s for each in ours],
                [each.wall_s for each in theirs],
                limit_s=limit_s,
                ours_bytes=ours[0].peak_bytes,
                earlier_bytes=theirs[0].peak_bytes,
            )


def _both(earlier: Path, words: str, times: int, home: str) -> tuple[list[Took], list[Took]]:
    env = {"KAWAN_USAHA_HOME": home, "HF_HUB_OFFLINE": "1", "PREFECT_API_URL": ""}
    ours, theirs = [], []
    for _ in range(times):
        ours.append(run_in(HERE, RUN, *words.split(), env=env))
        theirs.append(run_in(earlier, RUN, *words.split(), env=env))
    if ours[0].exit_code != 0:
        raise SystemExit(f"kawan-usaha {words} ended with code {ours[0].exit_code}")
    return ours, theirs


if __name__ == "__main__":
    main()
