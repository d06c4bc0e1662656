"""Cores are counted in one place, so that no two parts of a program divide them differently."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
COUNTING = {"sched_getaffinity", "cpu_count", "process_cpu_count"}
COUNTERS = {
    "tasks/core/system/cores.py",
    "tasks/core/serving/engines/own.py",  # physical cores, for which there is no other way
}


def counts(path: Path) -> bool:
    names = {getattr(node, "attr", None) for node in ast.walk(ast.parse(path.read_text()))}
    return bool(COUNTING & names)


def test_only_one_module_counts_the_cores() -> None:
    parts = ("flows", "tasks", "tests/benchmarks")
    files = [path for part in parts for path in (ROOT / part).rglob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in files if counts(path)} <= COUNTERS
