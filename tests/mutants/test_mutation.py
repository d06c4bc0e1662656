"""The mutants themselves: what is changed, what never is, and that an answer is of one of them."""

import ast

import pytest

from tasks.core.home import PROJECT
from tests.mutants.answers import stale
from tests.mutants.mutation import mutants
from tests.mutants.targets import TARGETS


def changed(source: str) -> list[str]:
    """Return the mutants of a function with this body, as sources."""
    whole = f"def f(x):\n    {source}"
    return [ast.unparse(mutant.tree()).partition("\n    ")[2] for mutant in mutants(whole)]


@pytest.mark.parametrize(
    ("source", "mutated"),
    [
        ("y = x < a", ["y = x <= a", "y = x >= a"]),
        ("y = x is None", ["y = x is not None"]),
        ("y = x and a", ["y = x or a"]),
        ("y = not x", ["y = x"]),
        ("y = x + 1", ["y = x - 1", "y = x + 2"]),
        ("y = True", ["y = False"]),
        ("return x", ["return None"]),
        ("raise ValueError('1')", ["pass"]),
        ("if x:\n        a()", ["if not x:\n        a()"]),
        ("y = [a for a in x if a]", ["y = [a for a in x if not a]"]),
    ],
)
def test_one_place_is_changed_at_a_time(source: str, mutated: list[str]) -> None:
    assert sorted(changed(source)) == sorted(mutated)


@pytest.mark.parametrize(
    "source",
    [
        "return None",
        "_log.info('%s', 1)",
        "y = f'{x + 1}'",
        "y: Literal[1] = x",
        "y = zip(x, x, strict=True)",
        "'text'",
        "y = x / 'name'",
    ],
)
def test_words_types_and_paths_are_let_be(source: str) -> None:
    assert changed(source) == []


def test_a_mutant_keeps_its_name_when_lines_move_and_equal_ones_are_told_apart() -> None:
    source = "def f(x):\n    return x[0], x[0]"
    names = [mutant.name for mutant in mutants(source)]
    assert names == [mutant.name for mutant in mutants(f"import a\n\n\n{source}")]
    assert len(set(names)) == 3
    assert names[1].startswith("f: return x[0], x[0] [0 => 1]")


def test_the_lines_of_a_mutant_are_those_of_its_statement_without_the_body() -> None:
    source = "def f(x):\n    if (x\n        > 1):\n        a()\n    return g(\n        1)"
    assert {tuple(mutant.lines) for mutant in mutants(source)} == {(2, 3), (5, 6)}


def test_every_target_is_there_with_its_tests() -> None:
    for target in TARGETS:
        assert all(file.is_file() for file in target.modules().values()), target.name
        assert all((PROJECT / "tests/unit" / file).is_file() for file in target.tests), target.name


def test_all_of_the_store_is_mutated() -> None:
    files = {file for target in TARGETS for file in target.modules().values()}
    store = PROJECT / "tasks/core/store"
    assert {*store.rglob("*.py")} - files == {store / "__init__.py"}


def test_every_answer_is_of_a_mutant_that_there_is() -> None:
    assert stale() == []
