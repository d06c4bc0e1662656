"""The table of faults is true: each line has its tests, and says what the program says."""

import ast
import re
from pathlib import Path

from tasks.core.home import PROJECT

PAGE = (PROJECT / "docs" / "faults.md").read_text()
LINES = [line for line in PAGE.splitlines() if line.startswith("| ") and "::" in line]
_NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
_OTHERS_WORDS = {"out of system resource"}  # asyncio's
OF_FAULTS = [
    *sorted((PROJECT / "tests" / "faults").glob("test_*.py")),
    PROJECT / "tests/unit/hub/test_faults.py",
    PROJECT / "tests/unit/serving/gateway/test_descriptors.py",
]
"""Files whose tests all stand in the table."""


def functions_in(path: Path) -> set[str]:
    """Return the names of the tests that pytest finds in a file, none without the file."""
    found = ast.parse(path.read_text()).body if path.is_file() else []
    functions = (node for node in found if isinstance(node, ast.FunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def test_there_is_a_line_for_each_kind_of_fault() -> None:
    assert len(LINES) > 60


def test_each_line_names_tests_that_are_there() -> None:
    for line in LINES:
        assert len(line.strip("| ").split(" | ")) == 4, line
        named = _NAMED.findall(line)
        assert named, line
        for file, name in named:
            assert name in functions_in(PROJECT / "tests" / file), f"{file}::{name}"


def test_no_test_of_a_fault_is_missing_from_the_table() -> None:
    named = set(_NAMED.findall(PAGE))
    for path in OF_FAULTS:
        file = str(path.relative_to(PROJECT / "tests"))
        assert {name for name in functions_in(path) if (file, name) not in named} == set(), file


def test_what_is_quoted_is_what_the_program_says() -> None:
    sources = "\n".join(
        path.read_text() for place in ("tasks", "flows") for path in (PROJECT / place).rglob("*.py")
    )
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)
    quoted = set(re.findall(r"“([^”]+)”", "".join(LINES)))
    assert len(quoted) > 25
    assert {words for words in quoted if words not in joined} == _OTHERS_WORDS
