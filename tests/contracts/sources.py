"""The project's own sources, parsed once in each process of the suite."""

import ast
from functools import cache

from tasks.core.home import PROJECT


@cache
def parsed(top: str) -> dict[str, ast.Module]:
    """Return the modules below a directory of the project, by path."""
    return {
        path.relative_to(PROJECT).as_posix(): ast.parse(path.read_bytes())
        for path in sorted((PROJECT / top).rglob("*.py"))
    }


def sources() -> dict[str, ast.Module]:
    """Return the modules of flows and tasks, by path."""
    return parsed("flows") | parsed("tasks")
