"""Code is read without being run, in many threads at once, and as `ast` would read it."""

import ast
import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers.trainer

from tasks.core.model.source_code import RelativeImport, methods_of, relative_imports
from tasks.core.system.threads import run_all

TRAINER = Path(transformers.trainer.__file__)
IMPORTS = b"""
import os
from json import loads
from . import here
from .. import there, everywhere
from .one import *
from .one.two import three as four
class Inside:
    def method(self):
        from .deep import thing
        raise RuntimeError
raise RuntimeError
"""


@pytest.fixture
def switching() -> Iterator[None]:
    """Other threads work whenever Python collects garbage, as they do where it runs finalizers."""

    def switch(*_: object) -> None:
        time.sleep(0.001)

    gc.callbacks.append(switch)
    yield
    gc.callbacks.remove(switch)


def parse_on(source: str, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            ast.parse(source)
        except SystemError:  # what `methods_of` must not meet
            return


def test_methods_are_those_that_ast_finds_also_while_another_thread_parses(switching: None) -> None:
    source = TRAINER.read_text(encoding="utf-8")
    (trainer,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "Trainer"
    )
    expected = {
        each.name: tuple(argument.arg for argument in each.args.args)
        for each in trainer.body
        if isinstance(each, ast.FunctionDef)
    }
    stop = threading.Event()
    other = threading.Thread(target=parse_on, args=(source, stop))
    other.start()
    try:
        found = run_all(
            [lambda: methods_of(source, "Trainer")] * 2, threads=2, name="x", stop=stop.set
        )
    finally:
        stop.set()
        other.join()
    assert found == [found[0]] * 2
    assert {name: found[0][name] for name in expected} == expected


def test_relative_imports_are_found_wherever_they_stand_and_nothing_is_run() -> None:
    assert set(relative_imports(IMPORTS)) == {
        RelativeImport(1, "", ("here",)),
        RelativeImport(2, "", ("there", "everywhere")),
        RelativeImport(1, "one", ("*",)),
        RelativeImport(1, "one.two", ("three",)),
        RelativeImport(1, "deep", ("thing",)),
    }


def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(SyntaxError):
        list(relative_imports(b"def"))
