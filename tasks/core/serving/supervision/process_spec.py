"""The specification of a process for supervisord, and the names of those beside the engines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GATEWAY = "gateway"
WATCH = "watch"
PAGE = "page"


@dataclass(frozen=True)
class ProcessSpec:
    """A process to keep running. The lowest priority starts first and is stopped last.

    It is killed stop_wait_s seconds after SIGTERM. Signals go to its whole group, or to it alone.
    listen is a socket (`tcp://127.0.0.1:8000`, IPv4) that supervisord opens and passes as standard
    input; it stays open while one of the copies lives.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    priority: int
    stop_wait_s: float = 5.0
    stops_as_group: bool = True
    listen: str | None = None
    copies: int = 1
