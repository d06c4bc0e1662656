"""What the watch of a deployment has found wrong, and repaired."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

IncidentKind = Literal[
    "died", "given-up", "hangs", "leaks", "edit-lost", "left-over", "worker-lost", "worker-back"
]


@dataclass(frozen=True)
class Incident:
    """What was wrong with a process, and what was done about it."""

    kind: IncidentKind
    process: str
    detail: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
