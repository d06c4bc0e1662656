"""Imports of our own modules stand at the top, except where a command would become slow by them.

A command's module has what `--help` needs; its work is one module of flows/actions, imported when
the command runs. So each function there imports from one module of ours at most.
"""

import ast
from collections.abc import Iterator

from tests.contracts.sources import parsed

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


def _inside_functions(tree: ast.Module) -> Iterator[list[str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (found := [*_imports(node)]):
            yield found


def test_a_function_of_a_command_imports_one_action_and_nothing_else() -> None:
    found, wrong = set(), set()
    for path, tree in parsed("flows/commands").items():
        for modules in _inside_functions(tree):
            names = {f"{path}: {module}" for module in modules}
            found |= names
            if len(modules) > 1 or not modules[0].startswith("flows.actions."):
                wrong |= names - OTHERS.keys()
    assert len(found) > 20
    assert wrong == set()
    assert OTHERS.keys() <= found


def test_an_action_imports_at_its_top() -> None:
    found = {
        f"{path}: {module}"
        for path, tree in parsed("flows/actions").items()
        for modules in _inside_functions(tree)
        for module in modules
    }
    assert found == {
        "flows/actions/data_check.py: tasks.core.conversation.checking.picture"
    }  # matplotlib
