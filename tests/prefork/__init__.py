"""Programs that import torch and transformers, forked from a Python that has done so already.

The import takes 4 s of a core, more than most of these programs work; the suite starts hundreds.
What a test says of starting, killing, measuring or the environment of a process belongs to a real
one: the memory, the command line and `/proc/PID/environ` of a preforked program are those of the
server, and what a library reads from the environment when it is imported was read there.

A program is a client (`client.py`), which is what was started, and a fork of the server
(`server.py`), which works with the client's files, environment and directory. The client ends as
the fork does, hands on what asks to end, and takes the fork with it when it is killed.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tasks.core.home import PROJECT

_CLIENT = Path(__file__).with_name("client.py")


WITH_TORCH = (
    "fastapi",
    "peft",
    "tasks.core.evaluation.entry",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.tokenization_llama",
    "uvicorn",
)
GATEWAY = (
    "-torch",
    "tasks.core.serving.gateway.server",
    "transformers.models.llama.tokenization_llama",
)
"""What is imported before the fork, or with a minus is not there; never what is run itself."""


def preforked(imported: Sequence[str], module: str, *arguments: str) -> list[str]:
    """Return the command that does what `python -m module arguments` does."""
    socket = str(_server(tuple(imported)).socket)
    return [sys.executable, "-I", "-S", str(_CLIENT), socket, module, *arguments]


def preforked_quick_start(module: str, *arguments: str) -> list[str]:
    """Return the command in place of that of `process.quick_start`."""
    return preforked(WITH_TORCH, "tasks.core.process.quick_start", module, *arguments)


class _Server:
    """A running server. It ends with this process, and its forks with it."""

    def __init__(self, imported: Sequence[str]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="kawan-usaha-prefork-")
        self.socket = Path(self._directory.name, "socket")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.prefork.server", str(self.socket), *imported],
            stdin=subprocess.PIPE,  # whose end is what the server waits for
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"


@cache
def _server(imported: tuple[str, ...]) -> _Server:
    return _Server(imported)
