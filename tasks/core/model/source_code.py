"""Methods and imports of Python source code, without running it and without `ast`.

CPython 3.11 keeps the recursion depth of `ast.parse` in one variable for all threads: when two
threads parse at the same time, as Prefect's and torch's do while a flow starts, either can fail
with "SystemError: AST constructor recursion depth mismatch". `compile` is not affected.
Source: Python/Python-ast.c of 3.11, PyAST_mod2obj; python/cpython#106905.
"""

import dis
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType


@dataclass(frozen=True)
class RelativeImport:
    """`from ..module import names`: the number of dots, and what follows them."""

    level: int
    module: str
    names: tuple[str, ...]


def methods_of(source: str, owner: str) -> dict[str, tuple[str, ...]]:
    """Return the parameters of each method of a class. Raises SyntaxError for invalid code."""
    classes = (each for each in _inside(_compiled(source)) if each.co_name == owner)
    return {
        method.co_name: method.co_varnames[: method.co_argcount]
        for each in classes
        for method in _inside(each)
    }


def relative_imports(source: bytes) -> Iterator[RelativeImport]:
    """Yield the relative imports in a file, including those in functions and classes.

    Raises SyntaxError or ValueError for invalid code.
    """
    waiting = [_compiled(source)]
    while waiting:
        code = waiting.pop()
        waiting += _inside(code)
        instructions = [
            each for each in dis.get_instructions(code) if each.opname != "EXTENDED_ARG"
        ]
        for number, each in enumerate(instructions):
            if each.opname == "IMPORT_NAME":  # preceded by its level and its names
                level, names = (before.argval for before in instructions[number - 2 : number])
                if level:
                    yield RelativeImport(level, each.argval, names or ())


def _compiled(source: str | bytes) -> CodeType:
    return compile(source, "<read, never run>", "exec", dont_inherit=True)


def _inside(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]
