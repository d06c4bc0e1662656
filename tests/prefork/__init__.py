"""Programs that import torch and transformers, forked from a Python that has done so already.

The import takes 4 s of a core, more than most of these programs work; the suite starts hundreds.
What a test says of starting, killing, measuring or the environment of a process belongs to a real
one: the memory, the command line and `/proc/PID/environ` of a preforked program are those of the
server, and what a library reads from the environment when it is imported was read there; but
huggingface_hub and transformers read it again.

A program is a client (`client.py`), which is what was started, and a fork of the server
(`server.py`), which works with the client's files, environment and directory. The client ends as
the fork does, hands on what asks to end, and takes the fork with it when it is killed.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from tasks.core.home import PROJECT

_CLIENT = Path(__file__).with_name("client.py")


Imported = Literal["torch", "gateway"]
"""What a server has imported; see `server.IMPORTED`."""


def preforked(imported: Imported, module: str, *arguments: str) -> list[str]:
    """Return the command that does what `python -m module arguments` does."""
    socket = str(_server(imported).socket)
    return [sys.executable, "-I", "-S", str(_CLIENT), socket, module, *arguments]


def preforked_quick_start(module: str, *arguments: str) -> list[str]:
    """Return the command in place of that of `process.quick_start`."""
    return preforked("torch", "tasks.core.process.quick_start", module, *arguments)


@contextmanager
def children_preforked() -> Iterator[None]:
    """Spare those that measure, prove and take fingerprints their imports."""
    import pytest  # not in the server

    from tasks.core.architecture.proof import fresh_process
    from tasks.core.evaluation import evaluate

    with pytest.MonkeyPatch.context() as patch:
        for module in (evaluate, fresh_process):
            patch.setattr(module, "quick_start", preforked_quick_start)
        yield


class _Server:
    """A running server. It ends with this process, and its forks with it."""

    def __init__(self, imported: Imported) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="kawan-usaha-prefork-")
        self.socket = Path(self._directory.name, "socket")
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-P", "-m", "tests.prefork.server", str(self.socket), imported],
            stdin=subprocess.PIPE,  # whose end is what the server waits for
            stdout=subprocess.PIPE,
            # A GPU that DeepSpeed looked at before the fork could not be used after it.
            env={**os.environ, "PYTHONPATH": str(PROJECT), "DS_ACCELERATOR": "cpu"},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"


@cache
def _server(imported: Imported) -> _Server:
    return _Server(imported)
