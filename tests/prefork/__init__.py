"""Programs that import torch and transformers, forked from a Python that has done so already.

The import takes 4 s of a core, more than most of these programs work; the suite starts hundreds.
What a test says of starting, killing, measuring or the environment of a process belongs to a real
one: the memory, the command line and `/proc/PID/environ` of a preforked program are those of the
server, and what a library reads from the environment when it is imported was read there; but
huggingface_hub and transformers read it again.

The processes of pytest-xdist are forked as well, from one that has collected the tests
(`collected.py`), for they take 20 s of a core to import. They share the servers.

A program is a client (`client.py`), which is what was started, and a fork of the server
(`server.py`), which works with the client's files, environment and directory. The client ends as
the fork does, hands on what asks to end, and takes the fork with it when it is killed.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from tasks.core.home import PROJECT

_CLIENT = Path(__file__).with_name("client.py")


Imported = Literal["torch", "gateway"]
"""What a server has imported; see `server.IMPORTED`."""
_HAND_OVER = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
_SHARED = "KAWAN_USAHA_PREFORK"
"""The directory with the sockets of the servers that the processes of a run share."""


def preforked(imported: Imported, module: str, *arguments: str) -> list[str]:
    """Return the command that does what `python -m module arguments` does."""
    return _client(_socket(imported), module, *arguments)


def handed_over(command: Sequence[str]) -> list[str]:
    """Return the command as started by a Python that reads its site, and so can be spied on."""
    return [sys.executable, "-c", _HAND_OVER, *command]


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


def fork_of_the_collected(paths: Sequence[str]) -> list[str]:
    """Return the command of a process of pytest-xdist that has imported the tests at the paths.

    Its processes share the servers of this one.
    """
    servers = [_start(imported) for imported in get_args(Imported)]
    for server in servers:
        _wait_for(server)
    os.environ[_SHARED] = str(_directory())
    socket = _directory() / "collected"
    _wait_for(_popen(preforked("torch", "tests.prefork.collected", str(socket), *paths)))
    return _client(socket, "tests.prefork.xdist_worker")


def _client(socket: Path, module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(_CLIENT), str(socket), module, *arguments]


@cache
def _socket(imported: Imported) -> Path:
    if _SHARED in os.environ:
        return Path(os.environ[_SHARED], imported)
    _wait_for(_start(imported))
    return _directory() / imported


@cache
def _directory() -> Path:
    directory = tempfile.mkdtemp(prefix="kawan-usaha-prefork-")
    atexit.register(shutil.rmtree, directory)
    return Path(directory)


def _start(imported: Imported) -> subprocess.Popen[bytes]:
    socket = str(_directory() / imported)
    return _popen([sys.executable, "-u", "-P", "-m", "tests.prefork.server", socket, imported])


def _popen(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a server. It ends with this process, and its forks with it."""
    server = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # whose end is what the server waits for
        stdout=subprocess.PIPE,
        # A GPU that DeepSpeed looked at before the fork could not be used after it.
        env={**os.environ, "PYTHONPATH": str(PROJECT), "DS_ACCELERATOR": "cpu"},
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[bytes]) -> None:
    for pipe in (server.stdin, server.stdout):
        assert pipe is not None
        pipe.close()
    server.wait()


def _wait_for(server: subprocess.Popen[bytes]) -> None:
    assert server.stdout is not None
    assert b"ready\n" in server.stdout  # after whatever is printed by what it imports
