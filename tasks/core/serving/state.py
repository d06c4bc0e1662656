"""What a deployment leaves on the disk, and where.

    <home>/serving/<name>/deployment.json    written last, after the probe passed: it serves
    <home>/serving/<name>/previous.json      the deployment that another one is to replace
    <home>/serving/<name>/supervisord.conf   the processes
    <home>/serving/<name>/expectation.json   what the worker must prove
    <home>/serving/<name>/model              a link to the model directory, under a neutral name
    <home>/serving/<name>/logs/              rotated, kept when the deployment is stopped

The invariant: without deployment.json there is no deployment, whatever else is left. The earlier
one's record becomes previous.json before its processes are ended, and goes when the new one serves;
left alone, it says that a replacement was cut off, and what to start again. Which
processes belong to it is no file's business (see processes.py): files outlive processes.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tasks.core.errors import ServingFailed, UsageError
from tasks.core.files import fsync_directory, write_atomically
from tasks.core.private import own_directory
from tasks.core.recipe import Deploy
from tasks.core.serving.report import REFUSAL_FILE
from tasks.core.serving.topology import Endpoints, endpoints_of

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")

_SOCKET_PATH_LIMIT = 107 - len(".4194304")
"""sun_path holds 108 bytes with the final NUL; supervisord first binds `<path>.<its pid>`."""


class Deployment(BaseModel):
    """A model that is being served, as deployment.json holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    engine: Literal["fastchat"] = "fastchat"
    build: str = Field(description="Identity of the model: an artifact's digest.")
    model: Path = Field(description="The directory that is served; prune must keep it.")
    template: str
    settings: Deploy
    expected_edit: dict[str, JsonValue] | None
    versions: dict[str, str] = Field(description="Of the libraries that serve it.")
    state: Path
    socket: Path = Field(description="supervisord's control socket.")
    started_at: datetime
    reused: bool = Field(False, exclude=True, description="It was running already.")

    @property
    def endpoints(self) -> Endpoints:
        """The addresses of its processes."""
        return endpoints_of(self.settings)

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as base_url."""
        return f"{self.endpoints.api}/v1"

    def same_service(self, other: "Deployment") -> bool:
        """Tell whether a client could not know this deployment from the other."""
        return self._identity() == other._identity()

    def _identity(self) -> dict[str, JsonValue]:
        identity: dict[str, JsonValue] = self.model_dump(
            mode="json",
            exclude={"started_at": True, "socket": True, "settings": {"startup_timeout_s"}},
        )
        return identity


@dataclass(frozen=True)
class StateDirectory:
    """The directory of one deployment."""

    root: Path

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.root.name

    @property
    def deployment(self) -> Path:
        """Stands here only while the deployment serves."""
        return self.root / "deployment.json"

    @property
    def previous(self) -> Path:
        """The record of the deployment that is being replaced, or whose replacement failed."""
        return self.root / "previous.json"

    @property
    def failed_logs(self) -> Path:
        """The logs of a start that failed, where the earlier deployment was started again."""
        return self.root / "failed-logs"

    @property
    def supervisor_config(self) -> Path:
        """The processes."""
        return self.root / "supervisord.conf"

    @property
    def expectation(self) -> Path:
        """What the worker must prove."""
        return self.root / "expectation.json"

    @property
    def refusal(self) -> Path:
        """Why the worker refused, if it did."""
        return self.root / REFUSAL_FILE

    @property
    def model(self) -> Path:
        """The link to the model directory.

        FastChat picks an adapter by words in the path, and a path with `vicuna` or `peft` in it
        would drop the edit. `model` is a word that none of its adapters claims.
        """
        return self.root / "model"

    @property
    def modules(self) -> Path:
        """Where transformers copies the code of this model, apart from every other's."""
        return self.root / "modules"

    @property
    def logs(self) -> Path:
        """supervisord.log and one log a process."""
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        """Held while the deployment is started or stopped."""
        return self.root.with_name(f".{self.name}.lock")

    @property
    def socket(self) -> Path:
        """supervisord's control socket: here if the path is short enough for one."""
        inside = self.root / "supervisor.sock"
        if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:20]
        return _short_runtime_directory() / f"{digest}.sock"

    def log_of(self, process: str) -> Path:
        """Return the log of one process: its standard output and error."""
        return self.logs / f"{process}.log"


def state_directory(home: Path, name: str) -> StateDirectory:
    """Return where the deployment `name` keeps its state; UsageError for an impossible name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            "This is no name for a deployment.",
            expected="letters, digits, `_`, `.`, `-`, the first one a letter or a digit",
            found=repr(name),
        )
    return StateDirectory(home.resolve() / "serving" / name)


def state_directories(home: Path) -> Iterator[StateDirectory]:
    """Yield the state of every deployment under home, serving or not, by name."""
    root = home.resolve() / "serving"
    if root.is_dir():
        for path in sorted(root.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield StateDirectory(path)


def read_deployment(state: StateDirectory) -> Deployment | None:
    """Return what serves there, None when nothing does.

    Raises ServingFailed when the file is not one that this version wrote.
    """
    return _read(state.deployment)


def read_previous(state: StateDirectory) -> Deployment | None:
    """Return what served there until a replacement failed or was cut off, None when nothing did.

    Raises ServingFailed like `read_deployment`.
    """
    return None if state.deployment.exists() else _read(state.previous)


def write_deployment(state: StateDirectory, deployment: Deployment) -> None:
    """Declare that the deployment serves."""
    write_atomically(state.deployment, deployment.model_dump_json(indent=2))


def set_aside(state: StateDirectory) -> None:
    """Declare that the deployment on record no longer serves, but may have to do so again."""
    if state.deployment.exists():
        state.deployment.rename(state.previous)
        fsync_directory(state.root)


def _read(record: Path) -> Deployment | None:
    try:
        return Deployment.model_validate_json(record.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ServingFailed(
            "The record of a deployment cannot be read.",
            where=record,
            found=f"{error.error_count()} wrong fields",
            next_step=f"`kawan-usaha stop {record.parent.name}`, then deploy again.",
        ) from error


def _short_runtime_directory() -> Path:
    """Return a directory of this user alone with a short path.

    Not in TMPDIR, which is another one for a worker than for the user who stops the deployment.
    """
    path = Path("/tmp") / f"kawan-usaha-{os.getuid()}"  # noqa: S108 - owner and mode are checked
    return own_directory(path)


def used_builds(home: Path) -> set[str]:
    """Return the builds that are served, started, or may have to serve again: prune keeps them.

    Known from the records and from the links to the models, so that a record that is not written
    yet or cannot be read protects its model too.
    """
    used = set()
    for state in state_directories(home):
        for read in (read_deployment, read_previous):
            try:
                deployment = read(state)
            except ServingFailed as error:
                logger.warning("%s", error)
                continue
            if deployment is not None:
                used.add(deployment.build)
        if state.model.is_symlink():
            used.add(state.model.readlink().name)
    return used
