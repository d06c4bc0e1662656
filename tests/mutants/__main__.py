"""`python -m tests.mutants [NAME ...]`: run the mutants, and name the survivors."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from hypothesis import settings

from tests import conftest
from tests.mutants.answers import answered
from tests.mutants.mutation import mutants
from tests.mutants.playing import Outcome, Trial, play, preload
from tests.mutants.recording import BaselineFailed, record
from tests.mutants.targets import TARGETS, Target

_START_S = 20.0
"""What a fork may take beside its tests, on a busy machine."""


def main() -> int:
    """Return 0 when every survivor is answered, and every answer is of a survivor."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    names = [target.name for target in TARGETS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--minutes", type=float, default=60, help="give up after this time")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no target: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    end = time.monotonic() + 60 * options.minutes
    _prepare()
    asked = [target for target in TARGETS if target.name in (options.names or names)]
    counts = [_report(target, end, options.jobs) for target in asked]
    print(f"{sum(counts)} to answer." if any(counts) else "Every survivor is answered.")
    return 1 if any(counts) else 0


def _prepare() -> None:
    """Have the forks draw the same examples each time, and write none into this checkout."""
    assert conftest.__name__  # its settings stand before any library is imported
    own = settings.get_profile("unhurried")
    settings.register_profile("mutants", own, database=None, derandomize=True)
    settings.load_profile("mutants")


def _report(target: Target, end: float, jobs: int) -> int:
    """Run the mutants of a target and print what has to be answered; return how many lines."""
    started = time.monotonic()
    try:
        every = _trials(target)
    except BaselineFailed as failed:
        print(f"{target.name}: its tests fail without a mutant.\n{failed}", flush=True)
        return 1
    counts: Counter[Outcome] = Counter()
    wrong = []
    for trial, outcome in play(_until(end, every), jobs):
        counts[outcome] += 1
        name, line = trial.mutant.name, trial.mutant.lines.start
        is_answered = name in answered().get(trial.module, {})
        if (outcome in ("survived", "untested")) != is_answered:
            told = f"{outcome}, though answered" if is_answered else outcome
            wrong.append((trial.module, line, f"{told}: {name}"))
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    print(f"{target.name}: {len(every)} mutants, {told} ({time.monotonic() - started:.0f} s)")
    for module, line, words in sorted(wrong):
        print(f"  {module}:{line} {words}")
    left = len(every) - counts.total()
    if left:
        print(f"  {left} not run: the time was over")
    sys.stdout.flush()
    return len(wrong) + bool(left)


def _trials(target: Target) -> list[Trial]:
    recording = record(target)
    preload(recording.modules)
    found = []
    for module, file in target.modules().items():
        for mutant in mutants(file.read_text()):
            tests = recording.tests_of(module, mutant.lines)
            limit_s = _START_S + 5 * sum(recording.seconds[test] for test in tests)
            found.append(Trial(module, file, mutant, tests, limit_s))
    return found


def _until(end: float, trials: list[Trial]) -> Iterator[Trial]:
    """Yield trials while there is time."""
    for trial in trials:
        if time.monotonic() > end:
            return
        yield trial


if __name__ == "__main__":
    sys.exit(main())
