"""Where a deployment keeps its files.

    <home>/serving/<name>/routes.json        which slot serves; without a route, none does
    <home>/serving/<name>/blue, green        the slots (slots.py), each with the record of its model
    <home>/serving/<name>/gateway.json       what the gateway is started with
    <home>/serving/<name>/page.json          what the page is started with
    <home>/serving/<name>/workers.json       the keys and certificates of workers
    <home>/serving/<name>/supervisord.conf   the processes
    <home>/serving/<name>/logs/              rotated, kept when the deployment is stopped

Which processes belong to a deployment is not recorded in any file (see processes.py): files outlive
processes.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.core.collected.storage.directory import COLLECTED
from tasks.core.errors import UsageError
from tasks.core.files.locks import locked
from tasks.core.files.private import own_directory
from tasks.core.serving.state.slots import Slot, SlotDirectory

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")

_A_LOOK_S = 900.0
"""How long one pass of the watch may take on a very busy machine."""

_SOCKET_PATH_LIMIT = 107 - len(".4194304")
"""sun_path holds 108 bytes with the final NUL; supervisord first binds `<path>.<its pid>`."""


@dataclass(frozen=True)
class StateDirectory:
    """The directory of one deployment."""

    root: Path

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.root.name

    @property
    def routes(self) -> Path:
        """Which slot serves."""
        return self.root / "routes.json"

    @property
    def gateway(self) -> Path:
        """The settings of the gateway."""
        return self.root / "gateway.json"

    @property
    def page(self) -> Path:
        """The settings of the page."""
        return self.root / "page.json"

    @property
    def workers(self) -> Path:
        """The keys with which the gateway asks other machines; readable by its owner only."""
        return self.root / "workers.json"

    @property
    def collected(self) -> Path:
        """What was collected with consent; readable by its owner only."""
        return self.root / COLLECTED

    @property
    def gateway_lock(self) -> Path:
        """Held by the copy of the gateway that serves."""
        return self.root / "gateway.lock"

    @property
    def failed_logs(self) -> Path:
        """The logs of a start that failed, where the earlier deployment was started again."""
        return self.root / "failed-logs"

    @property
    def supervisor_config(self) -> Path:
        """The processes."""
        return self.root / "supervisord.conf"

    def slot(self, slot: Slot) -> SlotDirectory:
        """Return the directory of a slot."""
        return SlotDirectory(self.root / slot)

    @property
    def logs(self) -> Path:
        """supervisord.log and one log per process."""
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        """Held while the deployment is started, switched or stopped."""
        return self.root.with_name(f".{self.name}.lock")

    @property
    def looking(self) -> Path:
        """Held during a pass of the watch, and by whoever starts or stops, after `lock`."""
        return self.root.with_name(f".{self.name}.looking.lock")

    @property
    def socket(self) -> Path:
        """supervisord's control socket."""
        return self._socket("supervisor.sock")

    @property
    def gateway_socket(self) -> Path:
        """The gateway's control socket."""
        return self._socket("gateway.sock")

    def _socket(self, name: str) -> Path:
        """Return the path of a socket, in this directory if the path is short enough."""
        inside = self.root / name
        if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(inside)).hexdigest()[:20]
        return _short_runtime_directory() / f"{digest}.sock"

    def log_of(self, process: str) -> Path:
        """Return the log of one process: its standard output and error."""
        return self.logs / f"{process}.log"


def state_directory(home: Path, name: str) -> StateDirectory:
    """Return the state directory of a deployment. Raises UsageError for an invalid name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            "The name of a deployment is invalid.",
            expected="letters, digits, `_`, `.`, `-`, beginning with a letter or a digit",
            found=repr(name),
        )
    return StateDirectory(home.resolve() / "serving" / name)


def existing_state(home: Path, name: str) -> StateDirectory:
    """Return the state directory of an existing deployment. Raises UsageError without one."""
    state = state_directory(home, name)
    if not state.root.is_dir():
        known = ", ".join(each.name for each in state_directories(home)) or "none"
        raise UsageError(
            "There is no deployment of this name.",
            where=state.root,
            expected=f"one of: {known}",
            found=name,
        )
    return state


def state_directories(home: Path) -> Iterator[StateDirectory]:
    """Yield the state directory of every deployment under home, running or not, by name."""
    root = home.resolve() / "serving"
    if root.is_dir():
        for path in sorted(root.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield StateDirectory(path)


def collected_answers(home: Path, name: str) -> Path:
    """Return the directory of collected answers of a deployment. Raises UsageError without one."""
    directory = state_directory(home, name).collected
    if not directory.is_dir():
        raise UsageError(
            "This deployment has collected nothing.",
            where=directory,
            next_step="Let it collect with `deploy.collect` in its recipe, and name it as "
            "`kawan-usaha status` does.",
        )
    return directory


@contextmanager
def changing(state: StateDirectory, what: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Be the only process that changes a deployment, and wait for a pass of its watch to end.

    Raises LockBusy when another process still changes it after wait_s seconds.
    """
    with locked(state.lock, what, wait_s=wait_s), locked(state.looking, what, wait_s=_A_LOOK_S):
        yield


def _short_runtime_directory() -> Path:
    """Return a directory with a short path that only this user can access.

    Not in TMPDIR, which may differ between a worker and the user who stops the deployment.
    """
    path = Path("/tmp") / f"kawan-usaha-{os.getuid()}"  # noqa: S108 - owner and mode are checked
    return own_directory(path)
