"""The project's own sources, parsed once in each process of the suite that asks for them.

Ask in a test or a fixture: what a module of tests asks when it is imported, every process pays.
"""

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


@cache
def nodes(tree: ast.Module) -> list[ast.AST]:
    """Return every node of a module, itself first."""
    return below(tree)


def below(node: ast.AST) -> list[ast.AST]:
    """Return what `ast.walk` yields but the contexts, Load and Store; in a third of its time."""
    found = [node]
    for each in found:  # it grows
        for name in each._fields:
            value = getattr(each, name, None)
            if isinstance(value, list):
                found += [part for part in value if isinstance(part, ast.AST)]
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                found.append(value)
    return found


def dotted(node: ast.AST) -> str:
    """Return `a.b` for a name with its attributes, `.b` for one of another expression."""
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(words)])


def sources() -> dict[str, ast.Module]:
    """Return the modules of flows and tasks, by path."""
    return parsed("flows") | parsed("tasks")
