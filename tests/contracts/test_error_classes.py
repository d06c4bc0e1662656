"""Every class of errors that leaves its module is one that a test has met: it names the class."""

import re
from collections.abc import Iterable

import pytest

from tasks.core.home import PROJECT

_CLASS = re.compile(r"^ *class (\w+)\(([^)]*)\):", re.MULTILINE)
_IMPORT = re.compile(r"^ *(from \S+ )?import (\([^)]*\)|[^(\n]*$)", re.MULTILINE)
_ENDS = ("Error", "Exception", "Interrupt", "Warning", "SystemExit")


def texts(*places: str) -> list[str]:
    return [path.read_text() for place in places for path in (PROJECT / place).rglob("*.py")]


def error_classes(sources: Iterable[str]) -> set[str]:
    """Return the exceptions that are defined; those with an underscore never leave their module."""
    bases = {
        name: [each.strip().rpartition(".")[2] for each in listed.split(",")]
        for source in sources
        for name, listed in _CLASS.findall(source)
    }

    def is_error(name: str) -> bool:
        return any(base.endswith(_ENDS) or is_error(base) for base in bases.get(name, ()))

    return {name for name in bases if is_error(name) and not name.startswith("_")}


def named(sources: Iterable[str]) -> set[str]:
    """Return the words of the sources, those of their imports left out."""
    return {word for source in sources for word in re.findall(r"\w+", _IMPORT.sub("", source))}


def test_every_error_is_named_by_a_test() -> None:
    classes = error_classes(texts("tasks", "flows"))
    assert len(classes) > 60
    assert sorted(classes - named(texts("tests"))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class A(Exception):\n    ...\nclass B(A):\n    ...", {"A", "B"}),
        ("class C(errors.UsageError):\n    ...", {"C"}),
        ("class _Again(Exception):\n    ...", set()),
        ("class D(Mapping):\n    ...", set()),
    ],
)
def test_a_class_of_errors_is_known_by_what_it_is_made_from(source: str, found: set[str]) -> None:
    assert error_classes([source]) == found


@pytest.mark.parametrize(
    "source", ["from errors import DiskFull", "from errors import (\n    DiskFull,\n)\n"]
)
def test_an_import_alone_is_no_test(source: str) -> None:
    assert "DiskFull" not in named([source])
    assert "DiskFull" in named([f"{source}\nwith pytest.raises(DiskFull):\n    write()"])
