"""Which tests execute which line of a module, and how long each takes."""

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import coverage
import pytest

from tests.mutants.playing import in_fork, run_pytest
from tests.mutants.targets import Target


@dataclass(frozen=True)
class Recording:
    """What a run of the unchanged module has shown."""

    executed: dict[str, dict[int, list[str]]]
    """The tests by module and line; a line that is executed by an import has all of them."""
    seconds: dict[str, float]
    modules: list[str]
    """All that was imported, in the order of the import."""

    def tests_of(self, module: str, lines: range) -> tuple[str, ...]:
        """Return the tests that execute one of the lines, the quickest first."""
        executed = self.executed[module]
        found = {test for line in lines for test in executed.get(line, ())}
        return tuple(sorted(found, key=lambda test: (self.seconds[test], test)))


class BaselineFailed(Exception):
    """The tests fail without any mutant; nothing can be said of mutants then."""


class _Recorder:
    """Tells coverage which test, or which fixture that several tests share, is at work."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured = measured
        self.seconds: Counter[str] = Counter()
        self.fixtures: dict[str, list[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._now = item.nodeid
        self.fixtures[item.nodeid] = list(getattr(item, "fixturenames", ()))
        self._measured.switch_context(item.nodeid)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object]
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        self._measured.switch_context(f"fixture {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self._measured.switch_context(self._now)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration


class _Without:
    """Leaves out the tests with a word in their names."""

    def __init__(self, word: str) -> None:
        self._word = word

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not self._word or self._word not in item.nodeid]


def record(target: Target) -> Recording:
    """Run the tests on the modules as they are. Raises BaselineFailed."""
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-mutants-") as scratch:
        place = Path(scratch)
        _, status = os.waitpid(in_fork(lambda own: _recorded(target, own), place), 0)
        if os.waitstatus_to_exitcode(status) != pytest.ExitCode.OK:
            raise BaselineFailed((place / "output").read_text()[-4000:])
        found = json.loads((place / "recording.json").read_text())
    executed = {
        module: {int(line): tests for line, tests in by_line.items()}
        for module, by_line in found["executed"].items()
    }
    return Recording(executed, found["seconds"], found["modules"])


def _recorded(target: Target, scratch: Path) -> int:
    modules = target.modules()
    files = [str(file) for file in modules.values()]
    measured = coverage.Coverage(data_file=None, config_file=False, include=files)
    recorder = _Recorder(measured)
    measured.start()
    tests = (f"tests/unit/{each}" for each in target.tests)
    status = run_pytest(tests, recorder, _Without(target.without), scratch=scratch)
    measured.stop()
    found = {
        "executed": {name: _by_line(measured, file, recorder) for name, file in modules.items()},
        "seconds": recorder.seconds,
        "modules": list(sys.modules),
    }
    (scratch / "recording.json").write_text(json.dumps(found))
    return status


def _by_line(measured: coverage.Coverage, file: Path, recorder: _Recorder) -> dict[int, list[str]]:
    users: dict[str, list[str]] = {}
    for test, names in recorder.fixtures.items():
        for name in names:
            users.setdefault(f"fixture {name}", []).append(test)
    by_line: dict[int, list[str]] = {}
    for line, contexts in measured.get_data().contexts_by_lineno(str(file)).items():
        found: set[str] = set()
        for context in contexts:
            if context == "":
                found.update(recorder.fixtures)
            else:
                found.update(users.get(context, [context] if "::" in context else []))
        by_line[line] = sorted(found)
    return by_line
