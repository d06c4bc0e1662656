"""The console script, run in the test's own process."""

import logging
import sys
import threading
from collections.abc import Callable

import pytest

from flows import cli
from flows.terminal.boundary import DEBUG_VARIABLE

Run = Callable[..., tuple[int, str, str]]
"""Runs a command by its words, and returns exit code, output and errors."""


def kawan_usaha(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Run the console script in this process, as the shell does."""
    for place, name in (
        (sys, "unraisablehook"),
        (threading, "excepthook"),
        (logging, "raiseExceptions"),
    ):  # what the program sets for good
        monkeypatch.setattr(place, name, getattr(place, name))
    monkeypatch.setenv(DEBUG_VARIABLE, "")
    monkeypatch.setattr("sys.argv", ["kawan-usaha", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err
