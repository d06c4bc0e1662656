"""The tests run on one mutant at a time, each in a fork of a Python that has imported all else.

The fork imports the project itself, with the mutant in the place of its module, so that nothing
keeps a name of the original. The libraries, torch above all, are imported once, before.
"""

import gc
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Literal

import pytest

from tests.mutants.mutation import Mutant

OWN = ("tasks", "flows", "tests")
"""Packages that no fork is to find imported."""

Outcome = Literal["killed", "survived", "timed out", "untested"]


@dataclass(frozen=True)
class Trial:
    """A mutant, the tests that execute its line, the quickest first, and the time they may take."""

    module: str
    file: Path
    mutant: Mutant
    tests: tuple[str, ...]
    limit_s: float


class _Loader(SourceFileLoader):
    """Loads the code that it is given in the place of a file's."""

    def __init__(self, module: str, path: str, code: CodeType) -> None:
        super().__init__(module, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Finder:
    """Finds one module, and leaves all others to Python."""

    def __init__(self, module: str, path: Path, code: CodeType) -> None:
        self._module, self._path, self._code = module, path, code

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._module:
            return None
        loader = _Loader(name, str(self._path), self._code)
        return spec_from_file_location(name, self._path, loader=loader)


class _Chosen:
    """Keeps pytest to these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._places = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._places),
            key=lambda item: self._places[item.nodeid],
        )


def run_pytest(files: Iterable[str], *plugins: object, scratch: Path) -> int:
    """Run the tests of these files until one fails, and return pytest's exit status."""
    options = ("-x", "-q", "--assert=plain", "--no-header", f"--basetemp={scratch / 'tmp'}")
    without = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler")
    return int(pytest.main([*options, *without, *sorted(set(files))], plugins=plugins))


def preload(modules: Iterable[str]) -> None:
    """Import what the tests import beside the project itself."""
    for name in modules:
        if name.partition(".")[0] not in OWN:
            # What another one has put there under a name that cannot be imported.
            with suppress(Exception):
                importlib.import_module(name)


def in_fork(work: Callable[[Path], int], scratch: Path) -> int:
    """Start a process that works in a scratch directory and ends with what it returns."""
    gc.freeze()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        quiet = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(quiet, stream)
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
            if name != "tests.conftest":
                del sys.modules[name]
        status = work(scratch)
    finally:
        os._exit(status)  # what the parent holds, it still needs


def play(trials: Iterable[Trial], jobs: int) -> Iterator[tuple[Trial, Outcome]]:
    """Yield how each trial ended, as they end; `jobs` of them run at once."""
    waiting, running = iter(trials), dict[int, _Run]()
    while True:
        while len(running) < jobs and (trial := next(waiting, None)) is not None:
            if not trial.tests:
                yield trial, "untested"
            else:
                run = _Run(trial)
                running[run.pid] = run
        if not running:
            return
        for pid, run in list(running.items()):
            if (outcome := run.outcome()) is not None:
                del running[pid]
                yield run.trial, outcome
        time.sleep(0.01)


class _Run:
    """One trial in its process."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._scratch = tempfile.TemporaryDirectory(prefix="kawan-usaha-mutant-")
        self._end = time.monotonic() + trial.limit_s
        self.pid = in_fork(self._work, Path(self._scratch.name))

    def _work(self, scratch: Path) -> int:
        path = self.trial.file
        code = compile(self.trial.mutant.tree(), str(path), "exec")
        sys.meta_path.insert(0, _Finder(self.trial.module, path, code))  # type: ignore[arg-type]
        files = {test.partition("::")[0] for test in self.trial.tests}
        return run_pytest(files, _Chosen(self.trial.tests), scratch=scratch)

    def outcome(self) -> Outcome | None:
        """Return how the trial ended, None while it runs."""
        if time.monotonic() > self._end:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._scratch.cleanup()
            return "timed out"
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if not ended:
            return None
        self._scratch.cleanup()
        passed = os.waitstatus_to_exitcode(status) == pytest.ExitCode.OK
        return "survived" if passed else "killed"
