"""Imports of our own modules stand at the top, except where a command would become slow by them.

A command's module has what `--help` needs; its work is one module of flows/actions, imported when
the command runs. So each function there imports from one module of ours at most.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tasks.core.home import PROJECT

OTHERS = {
    "flows/commands/status.py: flows.prefect_server.overview": "only where a server is running",
}
"""What a command's function imports from elsewhere, with the reason."""


def _imports(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("flows", "tasks")):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (n.name for n in node.names if n.name.startswith(("flows", "tasks")))


def _inside_functions(path: Path) -> Iterator[list[str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and (found := [*_imports(node)]):
            yield found


def test_a_function_of_a_command_imports_one_action_and_nothing_else() -> None:
    found, wrong = set(), set()
    for path in sorted((PROJECT / "flows" / "commands").glob("*.py")):
        for modules in _inside_functions(path):
            names = {f"{path.relative_to(PROJECT)}: {module}" for module in modules}
            found |= names
            if len(modules) > 1 or not modules[0].startswith("flows.actions."):
                wrong |= names - OTHERS.keys()
    assert len(found) > 20
    assert wrong == set()
    assert OTHERS.keys() <= found


def test_an_action_imports_at_its_top() -> None:
    found = {
        f"{path.name}: {module}"
        for path in (PROJECT / "flows" / "actions").glob("*.py")
        for modules in _inside_functions(path)
        for module in modules
    }
    assert found == {"data_check.py: tasks.core.conversation.checking.picture"}  # matplotlib
