"""Restarting deployments that should serve and do not.

Covers deployments that were killed or ended by a reboot, interrupted replacements, and servers that
run but generate no token. A deployment is restarted as its record says, unchanged. One that is just
being started is left alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.core.errors import KawanUsahaError, LockBusy
from tasks.core.files.locks import Say
from tasks.core.serving.launch.deployment import again
from tasks.core.serving.observe.status import DeploymentStatus, status

Outcome = Literal["healthy", "healed", "left alone", "down"]
"""healed: it was down and has just answered with a token. left alone: there is a problem that a
restart would not solve, or another process works on it. down: it could not be started."""

_PATIENCE_S = 600.0
"""How long a server that gave no token in time may take at the second check: it may be busy."""


@dataclass(frozen=True)
class Looked:
    """The result for one deployment; `words` say what was found and done."""

    name: str
    outcome: Outcome
    words: str


def heal(home: Path, *, restart: bool, say: Say) -> list[Looked]:
    """Check every deployment of home, restart what is down, and return the result for each.

    Without `restart` it only checks. A deployment that cannot be started does not keep the others
    from being checked.
    """
    return list(_healed(home, status(home), restart=restart, say=say))


def can_be_started(found: DeploymentStatus) -> bool:
    """Return whether a start can bring the deployment back."""
    # Without a readable record it cannot be restarted.
    return found.health in ("gone", "unhealthy") and found.deployment is not None


def _healed(
    home: Path, looks: list[DeploymentStatus], *, restart: bool, say: Say
) -> Iterator[Looked]:
    for found in looks:
        if found.health == "healthy":
            yield Looked(found.name, "healthy", "answers")
            continue
        problem = f"{found.health}: {found.problem}"
        say(f"{found.name} is {problem}")
        if not restart:
            yield Looked(found.name, "left alone", problem)
            continue
        yield _brought_back(home, found, problem, say)


def _brought_back(home: Path, found: DeploymentStatus, problem: str, say: Say) -> Looked:
    record = found.deployment
    if record is None or not can_be_started(found):
        return Looked(found.name, "left alone", problem)
    try:
        if found.health == "unhealthy" and _answers_late(home, found.name):
            return Looked(found.name, "left alone", problem)
        say(f"{found.name}: restarting")
        again(record, home, say=say)
    except LockBusy as error:
        return Looked(found.name, "left alone", f"{problem}; {error.found}")
    except KawanUsahaError as error:
        return Looked(found.name, "down", f"{problem}; {error}")
    return Looked(found.name, "healed", f"{problem}; it was restarted")


def _answers_late(home: Path, name: str) -> bool:
    """Return whether a token is generated after all, given much more time."""
    again = status(home, generate_s=_PATIENCE_S)
    return any(each.name == name and each.health != "unhealthy" for each in again)
