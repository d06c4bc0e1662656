"""Every file of its own that a module names beside itself is there: nothing was left by a move."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.sources import sources


def constants(tree: ast.Module) -> Iterator[str]:
    """Yield the names of a module's constants that are made of its own place."""
    for node in tree.body:
        value = getattr(node, "value", None)
        if value is not None and "__file__" in ast.unparse(value):
            targets = getattr(node, "targets", None) or [node.target]
            yield from (ast.unparse(target) for target in targets)


def paths_in(value: object) -> Iterator[Path]:
    """Yield the paths that a constant holds."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str) and value.startswith("/"):
        yield Path(value)
    elif isinstance(value, dict):
        yield from paths_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from paths_in(each)


CONSTANTS = [
    (path.removesuffix(".py").replace("/", "."), name)
    for path, tree in sources().items()
    for name in constants(tree)
]


def test_there_are_such_constants() -> None:
    assert ("tasks.core.home", "PROJECT") in CONSTANTS
    assert len(CONSTANTS) > 4


@pytest.mark.parametrize(("module", "name"), CONSTANTS)
def test_what_a_module_names_beside_itself_is_there(module: str, name: str) -> None:
    named = list(paths_in(getattr(importlib.import_module(module), name)))
    assert named
    assert [path for path in named if not path.exists()] == []
