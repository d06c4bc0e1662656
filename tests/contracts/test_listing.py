"""Whoever has to see all that lies in a directory asks `tasks.core.files.listing`, which raises."""

import ast

from tests.contracts.sources import sources

MAY = {
    "tasks/core/home.py",  # the project's own sources
    "tasks/core/demo/models.py",  # what pip has installed
    "tasks/core/files/locks.py",  # signs of dead holders, which another one may remove
    "tasks/core/model/config.py",  # names for an error's text
    "tasks/core/process/log.py",  # which old logs can go
    "tasks/core/recipe/file.py",  # the project's own recipes
    "tasks/core/serving/supervision/supervisord.py",  # what a killed supervisord has left
    "tasks/core/serving/engines/vllm_environment.py",  # what pip has installed
    "tasks/core/files/temporary.py",  # what a killed process has left; the next one tries again
    "tasks/core/training/launch/compile_locks.py",  # another program's cache
    "flows/commands/logs.py",  # what can be shown
}


def quiet_listings(tree: ast.Module) -> list[int]:
    """Return the lines that drop what cannot be listed."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            node.func.attr in ("glob", "rglob")
            or (
                ast.unparse(node.func) == "os.walk"
                and not any(each.arg == "onerror" for each in node.keywords)
            )
        )
    ]


def test_nothing_that_cannot_be_listed_is_dropped() -> None:
    assert {path for path, tree in sources().items() if quiet_listings(tree)} == MAY


def test_a_quiet_listing_is_noticed() -> None:
    source = "root.rglob('*')\nos.walk(root)\nos.walk(root, onerror=refuse)"
    assert quiet_listings(ast.parse(source)) == [1, 2]
