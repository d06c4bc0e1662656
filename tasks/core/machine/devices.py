"""One build at a time on a device, and what serves on it is not driven out of its memory.

    <place>/cpu.build          held by the training or evaluation that computes on this CPU
    <place>/<uuid>.build       the same for a GPU
    <place>/<device>.serving   shared by the workers that serve from it, each until it ends

Builds wait for one another. No build waits for a deployment, which serves until somebody stops it:
on a GPU, what the build needs must be free beside it; a CPU shares its memory as it always does.
The place belongs to the machine and the user, not to a home directory, for two homes share the
machine's memory. Not covered: other users of the machine, who are seen only by what their
processes hold of a GPU.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.core.errors import DeviceBusy
from tasks.core.files.locks import WAIT_S, Holder, Say, hold_for_life, holders, holders_in, locked
from tasks.core.files.private import own_directory
from tasks.core.machine.hardware import GpuUse, read_gpu_use
from tasks.core.units import readable

Kind = Literal["cuda", "cpu"]
Memory = Literal["device", "host"]

ENVIRONMENT_VARIABLE = "KAWAN_USAHA_LOCKS"
SERVED_FROM = "KAWAN_USAHA_SERVED_FROM"
"""The variable that tells a worker its lock files: those of the devices that it serves from."""

_CPU = "cpu"
_BUILD, _SERVING = ".build", ".serving"
_IDLE_SHARE = 0.05
"""Of a GPU's memory, what the driver itself may hold when no process does."""


def place() -> Path:
    """Return where the lock files lie: KAWAN_USAHA_LOCKS, or a directory of this user in /tmp.

    Not XDG_RUNTIME_DIR: a service has none, and would not see what a login holds.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    path = Path(named) if named else Path("/tmp") / f"kawan-usaha-{os.getuid()}"  # noqa: S108
    return own_directory(path) / "devices"


@dataclass
class Alone:
    """A build on devices that no other build uses, and who else was seen to use their memory."""

    kind: Kind
    count: int | None
    _seen: dict[Memory, set[str]] = field(default_factory=lambda: {"device": set(), "host": set()})

    def others(self, memory: Memory) -> list[str]:
        """Return who used this memory besides, when the build began or at this moment.

        To be asked while no process of the build runs: whoever is on a GPU then is a stranger. Who
        came and went in between is not seen.
        """
        self.look()
        return sorted(self._seen[memory])

    def anyone_else(self) -> bool:
        """Return whether anybody else was seen in the memory of the devices or the machine."""
        return bool(self.others("device") or self.others("host"))

    def look(self) -> None:
        """Take down who else uses the memory of the machine and of the GPUs now.

        A deployment counts, too: it may hold the memory that the build lacked.
        """
        self._seen["host"].update(each.what for each in holders_in(place()) if not _is_mine(each))
        if self.kind == "cuda":
            for gpu in read_gpu_use()[: self.count]:
                self._seen["device"].update(_users(gpu))


@contextmanager
def alone_on(
    kind: Kind, count: int | None, what: str, *, say: Say, wait_s: float = WAIT_S
) -> Iterator[Alone]:
    """Hold the CPU, or the first `count` visible GPUs (None: all), as the only build.

    While another build holds one, `say` is told. Raises LockBusy after wait_s seconds.
    """
    with ExitStack() as held:
        for name in sorted(_names(kind, count)):  # one order, so that no two wait for each other
            lock = place() / f"{name}{_BUILD}"
            held.enter_context(locked(lock, what, wait_s=wait_s, say=say))
        alone = Alone(kind, count)
        alone.look()
        yield alone


def require_room(kind: Kind, count: int | None, needed_bytes: int | None) -> None:
    """Raise DeviceBusy unless each GPU has needed_bytes free beside the deployments on it.

    A GPU that no deployment serves from is not judged, nor is a CPU. None stands for a need that
    is not known, and does not fit beside a deployment.
    """
    if kind == "cpu":
        return
    for gpu in read_gpu_use()[:count]:
        serving = holders(place() / f"{gpu.uuid}{_SERVING}")
        if serving and (needed_bytes is None or gpu.free_bytes < needed_bytes):
            need = "the whole GPU" if needed_bytes is None else f"{readable(needed_bytes)} free"
            raise DeviceBusy(
                "A deployment holds the memory of the GPU that this needs.",
                where=f"{gpu.name} ({gpu.uuid})",
                expected=need,
                found=f"{readable(gpu.free_bytes)} free beside {'; '.join(map(str, serving))}",
                next_step="`kawan-usaha stop NAME` ends the deployment, and `rebuild` starts the "
                "new one; or name another GPU in CUDA_VISIBLE_DEVICES.",
            )


def builds() -> list[Holder]:
    """Return the builds of this user that hold a device of this machine now."""
    return [holder for holder in holders_in(place()) if holder.lock.endswith(_BUILD)]


def served_from(kind: Kind, count: int | None) -> str:
    """Return the value of SERVED_FROM for a worker on these devices."""
    return os.pathsep.join(str(place() / f"{name}{_SERVING}") for name in _names(kind, count))


@contextmanager
def serving(what: str) -> Iterator[None]:
    """Show that this process serves from the devices that SERVED_FROM names, if it names any."""
    with ExitStack() as held:
        for path in _served_from():
            held.enter_context(locked(path, what, shared=True))
        yield


def serve_for_life(what: str) -> None:
    """Show the same of this process until it ends, whichever program it becomes by exec."""
    for path in _served_from():
        hold_for_life(path, what, shared=True)


def _served_from() -> list[Path]:
    return [Path(name) for name in os.environ.get(SERVED_FROM, "").split(os.pathsep) if name]


def _names(kind: Kind, count: int | None) -> Sequence[str]:
    return [_CPU] if kind == "cpu" else [gpu.uuid for gpu in read_gpu_use()[:count]]


def _users(gpu: GpuUse) -> Iterator[str]:
    yield from (f"pid {pid}" for pid in gpu.pids)
    if gpu.memory_bytes - gpu.free_bytes > _IDLE_SHARE * gpu.memory_bytes:
        yield f"{readable(gpu.memory_bytes - gpu.free_bytes)} of {gpu.name}"


def _is_mine(holder: Holder) -> bool:
    return (holder.host, holder.pid) == (socket.gethostname(), os.getpid())
