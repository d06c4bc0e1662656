"""`python -m tests.prefork.server SOCKET NAME`: imports what IMPORTED says, and forks on demand."""

import atexit
import gc
import marshal
import os
import random
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module, reload
from types import FrameType

IMPORTED = {
    "torch": (
        "fastapi",
        "peft",
        "tasks.core.evaluation.entry",
        "tasks.core.training.entry",
        "transformers.models.llama.modeling_llama",
        "transformers.models.llama.tokenization_llama",
        "uvicorn",
    ),
    "gateway": (
        "-torch",
        "tasks.core.serving.gateway.server",
        "transformers.models.llama.tokenization_llama",
    ),
}
"""What is imported before the fork, or with a minus is not there; never what is run itself.

They stand here and not in the command: a test that looks for a process by its module finds that.
"""
_MOST_BYTES = 1 << 20


@dataclass
class Server:
    """Forks, and tells each client how its fork has ended."""

    listener: socket.socket
    clients: dict[int, socket.socket] = field(default_factory=dict)
    """By the process that was forked for them."""

    def serve(self) -> list[str] | None:
        """Return the words of a program in a fork that is to run it; None where the owner left."""
        signal.signal(signal.SIGCHLD, _wake)
        reads, writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            for each in (0, reads, self.listener):
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == 0:
                        return None
                    if key.fd == reads:
                        os.read(reads, 512)
                        self._reap(selector)
                    elif key.fileobj is self.listener:
                        words = self._fork(selector, self.listener.accept()[0])
                        if words is not None:
                            signal.set_wakeup_fd(-1)
                            os.closerange(reads, writes + 1)
                            return words
                    elif (pid := self._pid_of(key.fd)) is not None:  # the client was killed
                        selector.unregister(key.fileobj)
                        os.kill(pid, signal.SIGKILL)

    def _fork(self, selector: selectors.BaseSelector, client: socket.socket) -> list[str] | None:
        told, files, _, _ = socket.recv_fds(client, _MOST_BYTES, 3)
        if not told:  # killed before it said anything
            client.close()
            return None
        words, directory, environment = marshal.loads(told)  # noqa: S302 - from our own client
        pid = os.fork()
        if pid:
            for file in files:
                os.close(file)
            self.clients[pid] = client
            with suppress(OSError):  # killed meanwhile: its end is read next
                client.send(str(pid).encode())
            selector.register(client, selectors.EVENT_READ)
            return None
        for own in (client, self.listener, *self.clients.values()):
            own.close()
        _become(directory, environment, files)
        found: list[str] = words
        return found

    def _reap(self, selector: selectors.BaseSelector) -> None:
        while self.clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            client = self.clients.pop(pid)
            if client in {key.fileobj for key in selector.get_map().values()}:
                selector.unregister(client)
                with suppress(OSError):
                    client.send(str(status).encode())
            client.close()

    def _pid_of(self, file: int) -> int | None:
        return next((pid for pid, client in self.clients.items() if client.fileno() == file), None)


def _wake(number: int, frame: FrameType | None) -> None:
    """Be there: a signal without a handler wakes nobody."""


def _become(directory: str, environment: dict[bytes, bytes], files: Sequence[int]) -> None:
    """Take over what a program that was started would have been given."""
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(directory)
    os.environb.clear()
    os.environb.update(environment)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    random.seed()
    read_again()


def read_again() -> None:
    """Have huggingface_hub and transformers take from the environment what they did at import."""
    if (constants := sys.modules.get("huggingface_hub.constants")) is None:
        return
    reload(constants)
    modules = os.environ.get("HF_MODULES_CACHE", f"{constants.HF_HOME}/modules")
    for name in ("utils.hub", "utils", "dynamic_module_utils"):
        if (module := sys.modules.get(f"transformers.{name}")) is not None:
            vars(module)["HF_MODULES_CACHE"] = modules


@dataclass
class _Ending:
    """The end of a program that has a code to end with.

    To take apart what was imported would cost a fork 0.5 s, more than most of what it does.
    """

    code: int | str | None = 0

    def at_once(self) -> None:
        """End, once everything else that is done at the end of a Python program is done."""
        if isinstance(self.code, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


def main() -> None:
    """Serve; in a fork, be the program."""
    _, path, imported = sys.argv
    ending = _Ending()
    # Before all that is imported, and so after all that it has to do.
    atexit.register(ending.at_once)
    gc.disable()
    for module in IMPORTED[imported]:
        if module.startswith("-"):
            sys.modules[module[1:]] = None  # type: ignore[assignment]
        else:
            import_module(module)
    gc.freeze()
    gc.enable()
    try:
        serve(path)
    except SystemExit as end:
        ending.code = 0 if end.code is None else end.code
        raise
    except BaseException:
        ending.code = None
        raise


def serve(path: str) -> None:
    """Serve at path until the owner leaves; in a fork, be the program."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)  # noqa: T201
        server = Server(listener)
        words = server.serve()
    if words is None:
        for pid in server.clients:
            os.kill(pid, signal.SIGKILL)
        return
    sys.argv[1:] = words[1:]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
