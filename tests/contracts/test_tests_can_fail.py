"""Every test can fail: it asserts, expects an error, or calls what refuses."""

import ast

import pytest

from tests.contracts.sources import below, dotted, nodes, parsed

REFUSES = ("require_", "check_", "validate", "verify", "load_")
"""How functions are called that raise unless all is well. A call is a test that all is well."""
EXPECTS = {"pytest.raises", "pytest.warns", "pytest.fail"}
COMPARES = {"assert_close", "assert_allclose", "assert_array_equal"}


def called_by(function: ast.AST) -> set[str]:
    """Return the names of what a function calls; `assert` where it can fail by itself."""
    found = set()
    for node in below(function):
        if isinstance(node, ast.Assert | ast.Raise):
            found.add("assert")
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            refuses = name in COMPARES or name.startswith(REFUSES)
            found.add("assert" if refuses or dotted(called) in EXPECTS else name)
    return found


def is_trivial(test: ast.expr) -> bool:
    """Return whether what is asserted is true whatever the program does."""
    if isinstance(test, ast.Constant | ast.Tuple | ast.Lambda | ast.GeneratorExp | ast.JoinedStr):
        return True
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right = ast.unparse(test.left), ast.unparse(test.comparators[0])
        counts = left.startswith("len(") and isinstance(test.ops[0], ast.GtE)
        return right == "0" if counts else left == right and "(" not in left
    return False


def toothless(modules: dict[str, ast.Module]) -> list[str]:
    """Return the tests that cannot fail, by file and name."""
    functions = [
        (file, node.name, called_by(node))
        for file, tree in modules.items()
        for node in nodes(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    failing = {"assert"}
    while more := {name for _, name, calls in functions if calls & failing} - failing:
        failing |= more
    return [
        f"{file}: {name}"
        for file, name, calls in functions
        if name.startswith("test_") and not calls & failing
    ]


def asserting_nothing(tree: ast.Module) -> list[int]:
    """Return the lines that assert what is true in any case, or that are never reached."""
    lines = [
        node.lineno
        for node in nodes(tree)
        if isinstance(node, ast.Assert) and is_trivial(node.test)
    ]
    for node in nodes(tree):
        if isinstance(node, ast.With) and any(
            ast.unparse(item.context_expr).startswith("pytest.raises(") for item in node.items
        ):
            lines += [each.lineno for each in node.body if isinstance(each, ast.Assert)]
    return lines


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    return parsed("tests")


def test_every_test_can_fail(modules: dict[str, ast.Module]) -> None:
    assert toothless(modules) == []


def test_no_assertion_is_true_in_any_case(modules: dict[str, ast.Module]) -> None:
    found = {file: asserting_nothing(tree) for file, tree in modules.items()}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "body",
    [
        "assert f() == 1",
        "with pytest.raises(ValueError):\n        f()",
        "require_model(path)",
        "helper()\n\ndef helper():\n    assert f()",
    ],
)
def test_what_can_fail_is_let_be(body: str) -> None:
    assert toothless({"a.py": ast.parse(f"def test_a():\n    {body}")}) == []


def test_a_test_that_only_calls_is_found() -> None:
    source = "def test_a():\n    helper()\n\ndef helper():\n    notify()"
    assert toothless({"a.py": ast.parse(source)}) == ["a.py: test_a"]


@pytest.mark.parametrize(
    "line",
    [
        "assert True",
        "assert (f(), 'a message')",
        "assert x == x",
        "assert len(found) >= 0",
        "assert (each for each in found)",
        "with pytest.raises(ValueError):\n    f()\n    assert x",
    ],
)
def test_an_assertion_of_nothing_is_found(line: str) -> None:
    assert len(asserting_nothing(ast.parse(line))) == 1


def test_two_calls_that_answer_the_same_are_something() -> None:
    assert asserting_nothing(ast.parse("assert drawn(7) == drawn(7)")) == []
