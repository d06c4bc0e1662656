"""Cores are counted in one place, so that no two parts of a program divide them differently."""

import ast

from tests.contracts.sources import parsed, sources

COUNTING = {"sched_getaffinity", "cpu_count", "process_cpu_count"}
COUNTERS = {
    "tasks/core/system/cores.py",
    "tasks/core/serving/engines/own.py",  # physical cores, for which there is no other way
}


def counts(tree: ast.Module) -> bool:
    return bool(COUNTING & {getattr(node, "attr", None) for node in ast.walk(tree)})


def test_only_one_module_counts_the_cores() -> None:
    modules = sources() | parsed("tests/benchmarks")
    assert {path for path, tree in modules.items() if counts(tree)} <= COUNTERS
