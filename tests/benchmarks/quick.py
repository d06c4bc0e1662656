"""A small form of every benchmark in a few minutes, against the ratios that were kept last.

    make bench-quick            # exits with 1 when a row got slower, or has not run
    make bench-quick KEEP=1     # what is measured now is kept

Each benchmark prints with `--quick` a line `{"row": ..., "ratio": ...}` for each of its rows: our
time by that of the peer or the limit beside it, in one run, so that machines can be compared as far
as that is possible. The kept ones, with the CPU that they were measured on, are `ratios.json`.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.core.machine.cpu import read_cpu
from tasks.core.system.cores import usable_cores

BENCHMARKS = (
    "bench_weights",
    "bench_check",
    "bench_prepare",
    "bench_training",
    "bench_commands",
    "bench_no_change",
    "bench_overlap",
    "bench_evaluate",
)
KEPT = Path(__file__).with_name("ratios.json")
NOISE = 1.3
"""A ratio of two medians of a few rounds differs by a fifth from run to run on a shared machine."""


@dataclass(frozen=True)
class Verdict:
    """One row: measured now, and kept; either may be missing."""

    row: str
    now: float | None
    kept: float | None

    @property
    def bad(self) -> bool:
        """Whether it got slower, or was measured once and is not any more."""
        if self.now is None:
            return True
        return self.kept is not None and self.now > self.kept * NOISE

    def __str__(self) -> str:
        """Return it as a row of a table in Markdown."""
        if self.now is None:
            word = "not measured"
        elif self.kept is None:
            word = "new"
        else:
            word = "SLOWER" if self.bad else "faster" if self.kept > self.now * NOISE else "as kept"
        return f"| {self.row} | {_shown(self.now)} | {_shown(self.kept)} | {word} |"


def main() -> int:
    """Return 1 when a row got slower or has not run, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="keep what is measured now")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    chosen = parser.parse_args()
    kept: dict[str, float] = json.loads(KEPT.read_text())["ratios"] if KEPT.exists() else {}
    now: dict[str, float] = {}
    failed = []
    for name in chosen.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        begun = time.monotonic()
        found = measured(name)
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        now |= found
        failed += [] if found else [name]
    expected = kept if chosen.only == BENCHMARKS else {}
    verdicts = compared(now, expected or {row: kept[row] for row in now if row in kept})
    print("| row | ours / theirs | kept | |\n|---|---:|---:|---|")
    print("\n".join(map(str, verdicts)))
    if failed:
        print("failed: " + ", ".join(failed), file=sys.stderr)
    if chosen.keep and not failed:
        cpu = f"{usable_cores()} cores, {read_cpu()}"
        document = {"cpu": cpu, "ratios": dict(sorted((kept | now).items()))}
        KEPT.write_text(json.dumps(document, indent=1) + "\n")
        return 0
    return int(bool(failed) or any(each.bad for each in verdicts))


def measured(name: str) -> dict[str, float]:
    """Return the ratios of one benchmark, by row; none when it has failed, which is shown."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--quick"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode != 0:
        return {}
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"row"')]
    return {line["row"]: line["ratio"] for line in lines}


def compared(now: dict[str, float], kept: dict[str, float]) -> list[Verdict]:
    """Return a verdict for each row that is known from either side."""
    return [Verdict(row, now.get(row), kept.get(row)) for row in sorted(now | kept)]


def _shown(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"


if __name__ == "__main__":
    sys.exit(main())
