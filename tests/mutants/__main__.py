"""`python -m tests.mutants [MODULE ...]`: run the mutants, and name the survivors."""

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
from tests.mutants.recording import record
from tests.mutants.targets import TARGETS, Target

_START_S = 20.0
"""What a fork may take beside its tests, on a busy machine."""


def main() -> int:
    """Return 0 when every survivor is answered, and every answer is of a survivor."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="all of targets.py by default")
    parser.add_argument("--minutes", type=float, default=60, help="give up after this time")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    _prepare()
    found = [
        line
        for target in TARGETS
        if (asked := _asked(target, options.modules))
        for line in _report(target, asked, end, options.jobs)
    ]
    print(*(found or ["Every survivor is answered."]), sep="\n")
    return 1 if found else 0


def _asked(target: Target, words: list[str]) -> list[str]:
    """Return the modules of a target that are to be mutated: all without words."""
    return [
        module
        for module in target.modules()
        if not words or module in words or target.code in words
    ]


def _prepare() -> None:
    """Have the forks draw the same examples each time, and write none into this checkout."""
    assert conftest.__name__  # its settings stand before any library is imported
    own = settings.get_profile("unhurried")
    settings.register_profile("mutants", own, database=None, derandomize=True)
    settings.load_profile("mutants")


def _report(target: Target, modules: list[str], end: float, jobs: int) -> list[str]:
    """Run the mutants of some modules; return what somebody has to answer."""
    started, every = time.monotonic(), _trials(target, modules)
    counts: Counter[Outcome] = Counter()
    wrong = []
    for trial, outcome in play(_until(end, every), jobs):
        counts[outcome] += 1
        name, line = trial.mutant.name, trial.mutant.lines.start
        is_answered = name in answered().get(trial.module, {})
        if (outcome in ("survived", "untested")) != is_answered:
            told = f"{outcome}, though answered" if is_answered else outcome
            wrong.append((trial.module, line, f"{trial.module}:{line} {told}: {name}"))
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    seconds = time.monotonic() - started
    print(f"{target.code}: {len(every)} mutants, {told} ({seconds:.0f} s)", flush=True)
    left = len(every) - counts.total()
    late = [f"{target.code}: {left} not run, the time was over"] if left else []
    return [words for *_, words in sorted(wrong)] + late


def _trials(target: Target, modules: list[str]) -> list[Trial]:
    recording = record(target)
    preload(recording.modules)
    found = []
    for module, file in target.modules().items():
        for mutant in mutants(file.read_text()) if module in modules else ():
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
