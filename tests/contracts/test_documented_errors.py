"""What a docstring says that a function raises, it can raise: itself, or in what it calls.

Read from the sources alone. Functions are followed by the names that they mention, methods by
theirs alone: so a true sentence is never doubted, and a wrong one found only where nothing below
the function makes such an error. Python's own errors are left out: no line of ours need name them.
"""

import ast
import builtins
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.contracts.sources import below, nodes, sources

SENTENCE = re.compile(r"\bRaises?\s+((?:[^.]|\.\S)*)\.")
"""From `Raises` to the end of the sentence."""
NAME = re.compile(r"\b[A-Z]\w*[a-z]\w*\b")
AMBIGUOUS = 12
"""A method that has namesakes in more classes than this is not followed: `get`, `read`."""

Tree = ast.Module | ast.stmt
Functions = ast.FunctionDef | ast.AsyncFunctionDef


class Key(NamedTuple):
    """A function, class or constant of a module, or a method as `Class.method`."""

    module: str
    name: str


class Sources:
    """What the modules of the project define, and what each definition mentions."""

    def __init__(self, modules: dict[str, ast.Module]) -> None:
        self.nodes: dict[Key, ast.stmt] = {}
        self._methods: dict[str, set[Key]] = defaultdict(set)
        self._names: dict[str, dict[str, Key]] = {}
        for module, tree in modules.items():
            self._read(module, tree)
        self._bases = {
            key.name: [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            for key, node in self.nodes.items()
            if isinstance(node, ast.ClassDef)
        }
        self.errors = {name for name in self._bases if self._is_error(name)}
        self._below = {key: set(self._mentions(key)) for key in self.nodes}

    def _read(self, module: str, tree: ast.Module) -> None:
        names = self._names[module] = {}
        for node in nodes(tree):
            if isinstance(node, ast.ImportFrom):
                for each in node.names:
                    names[each.asname or each.name] = Key(node.module or "", each.name)
        for node in tree.body:
            for name in _defined(node):
                self.nodes[Key(module, name)] = node
                names[name] = Key(module, name)
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(node, ast.ClassDef) and isinstance(method, Functions):
                    key = Key(module, f"{node.name}.{method.name}")
                    self.nodes[key] = method
                    self._methods[method.name].add(key)

    def _is_error(self, name: str) -> bool:
        bases = self._bases.get(name, [])
        return any(base.endswith(("Error", "Exception")) or self._is_error(base) for base in bases)

    def _mentions(self, key: Key) -> Iterator[Key]:
        node = self.nodes[key]
        if isinstance(node, ast.ClassDef):
            own = [each for each in node.body if not isinstance(each, Functions)]
            names = {each.name for each in node.body if isinstance(each, Functions)}
            yield from (Key(key.module, f"{key.name}.{name}") for name in names)
            yield from self._mentioned(key.module, *own, *node.bases)
        else:
            yield from self._mentioned(key.module, node)

    def _mentioned(self, module: str, *nodes: ast.AST) -> Iterator[Key]:
        for node in (each for top in nodes for each in below(top)):
            if isinstance(node, ast.Name):
                yield from self._found(self._names[module].get(node.id))
            elif isinstance(node, ast.Attribute):
                methods = self._methods.get(node.attr, set())
                yield from methods if len(methods) <= AMBIGUOUS else ()
                if isinstance(node.value, ast.Name):
                    yield from self._in_module(module, node.value.id, node.attr)

    def _in_module(self, module: str, name: str, attribute: str) -> Iterator[Key]:
        """Yield `module.function` of a module that was imported by its name."""
        imported = self._names[module].get(name)
        if imported is not None:
            yield from self._found(Key(f"{imported.module}.{imported.name}", attribute))

    def _found(self, key: Key | None) -> Iterator[Key]:
        """Yield the definition, also of a name that a package hands on."""
        seen = set()
        while key is not None and key not in self.nodes and key not in seen:
            seen.add(key)
            key = self._names.get(key.module, {}).get(key.name)
        if key in self.nodes:
            yield key

    def raised_by(self, key: Key) -> set[str]:
        """Return the errors that a function, or anything below it, mentions."""
        seen, todo = {key}, [key]
        while todo:
            new = self._below[todo.pop()] - seen
            seen |= new
            todo += new
        return {each.name for each in seen if each.name in self.errors}

    def is_a(self, name: str, error: str) -> bool:
        return name == error or any(self.is_a(base, error) for base in self._bases.get(name, ()))

    def untrue(self) -> list[str]:
        """Return what docstrings say and nothing makes true."""
        found = []
        for key, node in self.nodes.items():
            said = _said(node) & self.errors
            raised = self.raised_by(key) if said else set()
            found += [
                f"{key.module}.{key.name}: {error}"
                for error in said
                if not any(self.is_a(name, error) for name in raised)
            ]
        return sorted(found)

    def unknown(self) -> list[str]:
        """Return the errors that docstrings name and nobody has defined."""
        imported = (name for names in self._names.values() for name in names)
        known = {*self.errors, *dir(builtins), *imported}
        return sorted(
            f"{key.module}.{key.name}: {name}"
            for key, node in self.nodes.items()
            for name in _said(node)
            if name.endswith("Error") and name not in known
        )


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, Functions | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _said(node: ast.stmt) -> set[str]:
    """Return the classes that the docstring of a function with a body says are raised."""
    if not isinstance(node, Functions) or len(node.body) == 1:
        return set()
    words = " ".join((ast.get_docstring(node) or "").split())
    return {name for sentence in SENTENCE.findall(words) for name in NAME.findall(sentence)}


@pytest.fixture(scope="module")
def project() -> Sources:
    return Sources(
        {
            path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree
            for path, tree in sources().items()
        }
    )


def test_what_docstrings_say_is_raised_can_be(project: Sources) -> None:
    assert project.untrue() == []


def test_no_docstring_names_an_error_that_is_not_there(project: Sources) -> None:
    assert project.unknown() == []


def test_many_docstrings_name_errors(project: Sources) -> None:
    said = [name for node in project.nodes.values() for name in _said(node) & project.errors]
    assert len(said) > 200


EXAMPLE = '''
class Wrong(Exception): ...
class VeryWrong(Wrong): ...
class Other(Exception): ...
def f():
    """Return 1. Raises {error} when it cannot, and says so."""
    return g()
def g():
    raise VeryWrong
'''


@pytest.mark.parametrize(
    ("error", "untrue"),
    [("Wrong", []), ("VeryWrong", []), ("Other", ["m.f: Other"]), ("ValueError", [])],
)
def test_an_untrue_sentence_is_found(error: str, untrue: list[str]) -> None:
    assert Sources({"m": ast.parse(EXAMPLE.format(error=error))}).untrue() == untrue


def test_a_name_that_nobody_has_defined_is_found() -> None:
    example = Sources({"m": ast.parse(EXAMPLE.format(error="GoneError"))})
    assert example.unknown() == ["m.f: GoneError"]
