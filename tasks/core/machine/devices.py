"""One build at a time on a device, and no build drives a deployment out of its memory.

    <locks>/cpu.build          held by the training or evaluation that computes on this CPU
    <locks>/<uuid>.build       the same for a GPU
    <locks>/<device>.serving   shared by the workers that serve from it, each until it ends

Builds wait for one another. No build waits for a deployment, which serves until somebody stops it:
on a GPU, the memory that the build needs must be free beside it; on the CPU the kernel shares the
memory out as usual. The lock directory belongs to the machine and the user, not to a home
directory, because two homes share the machine's memory. Not covered: other users of the machine,
of whom only the GPU memory that their processes hold is visible.
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

DeviceKind = Literal["cuda", "cpu"]
MemoryKind = Literal["device", "host"]

LOCKS_VARIABLE = "KAWAN_USAHA_LOCKS"
SERVED_FROM = "KAWAN_USAHA_SERVED_FROM"
"""The variable that names a worker's lock files: those of the devices that it serves from."""

_CPU = "cpu"
_BUILD, _SERVING = ".build", ".serving"
_IDLE_SHARE = 0.05
"""Of a GPU's memory, what the driver itself may hold when no process does."""


def lock_directory() -> Path:
    """Return where the lock files lie: KAWAN_USAHA_LOCKS, or a directory of this user in /tmp.

    Not XDG_RUNTIME_DIR: a service has none, and would not see the locks of a login session.
    """
    named = os.environ.get(LOCKS_VARIABLE)
    path = Path(named) if named else Path("/tmp") / f"kawan-usaha-{os.getuid()}"  # noqa: S108
    return own_directory(path) / "devices"


@dataclass
class Alone:
    """A build that has its devices to itself, and who else was seen to use their memory."""

    kind: DeviceKind
    count: int | None
    _seen: dict[MemoryKind, set[str]] = field(
        default_factory=lambda: {"device": set(), "host": set()}
    )

    def others(self, memory: MemoryKind) -> list[str]:
        """Return who else used this memory, when the build began or at this moment.

        Call this while no process of the build runs: every process on a GPU is then somebody
        else's. Processes that came and went in between are not seen.
        """
        self.look()
        return sorted(self._seen[memory])

    def anyone_else(self) -> bool:
        """Return whether anybody else was seen to use the memory of the devices or the machine."""
        return bool(self.others("device") or self.others("host"))

    def look(self) -> None:
        """Note who else uses the memory of the machine and of the GPUs now.

        A deployment counts as well: it may hold the memory that the build lacked.
        """
        self._seen["host"].update(
            each.what for each in holders_in(lock_directory()) if not _is_mine(each)
        )
        if self.kind == "cuda":
            for gpu in read_gpu_use()[: self.count]:
                self._seen["device"].update(_users(gpu))


@contextmanager
def alone_on(
    kind: DeviceKind, count: int | None, what: str, *, say: Say, wait_s: float = WAIT_S
) -> Iterator[Alone]:
    """Hold the CPU, or the first `count` visible GPUs (None: all), as the only build.

    While another build holds one, `say` gets a line. Raises LockBusy after wait_s seconds.
    """
    with ExitStack() as held:
        for name in sorted(_names(kind, count)):  # one order, so that no two wait for each other
            lock = lock_directory() / f"{name}{_BUILD}"
            held.enter_context(locked(lock, what, wait_s=wait_s, say=say))
        alone = Alone(kind, count)
        alone.look()
        yield alone


def require_gpu_memory(kind: DeviceKind, count: int | None, needed_bytes: int | None) -> None:
    """Raise DeviceBusy unless each GPU has needed_bytes free beside the deployments on it.

    GPUs without a deployment are not checked, nor is a CPU. needed_bytes None: the need is unknown
    and counts as too large to fit beside a deployment.
    """
    if kind == "cpu":
        return
    for gpu in read_gpu_use()[:count]:
        serving = holders(lock_directory() / f"{gpu.uuid}{_SERVING}")
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
    return [holder for holder in holders_in(lock_directory()) if holder.lock.endswith(_BUILD)]


def served_from(kind: DeviceKind, count: int | None) -> str:
    """Return the value of SERVED_FROM for a worker on these devices."""
    return os.pathsep.join(
        str(lock_directory() / f"{name}{_SERVING}") for name in _names(kind, count)
    )


@contextmanager
def serving(what: str) -> Iterator[None]:
    """Hold the serving locks of the devices that SERVED_FROM names, if it names any."""
    with ExitStack() as held:
        for path in _served_from():
            held.enter_context(locked(path, what, shared=True))
        yield


def serve_for_life(what: str) -> None:
    """Hold the same locks until this process ends, whichever program it becomes by exec."""
    for path in _served_from():
        hold_for_life(path, what, shared=True)


def _served_from() -> list[Path]:
    return [Path(name) for name in os.environ.get(SERVED_FROM, "").split(os.pathsep) if name]


def _names(kind: DeviceKind, count: int | None) -> Sequence[str]:
    return [_CPU] if kind == "cpu" else [gpu.uuid for gpu in read_gpu_use()[:count]]


def _users(gpu: GpuUse) -> Iterator[str]:
    yield from (f"pid {pid}" for pid in gpu.pids)
    if gpu.memory_bytes - gpu.free_bytes > _IDLE_SHARE * gpu.memory_bytes:
        yield f"{readable(gpu.memory_bytes - gpu.free_bytes)} of {gpu.name}"


def _is_mine(holder: Holder) -> bool:
    return (holder.host, holder.pid) == (socket.gethostname(), os.getpid())
