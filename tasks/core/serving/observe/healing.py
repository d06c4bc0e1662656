"""Start again what should serve and does not.

Covers deployments that a kill or a restart of the machine has ended, replacements that were cut
off, and servers that run but give no token. It changes nothing of a deployment: the record says
what is started. What is being started is left to whoever starts it.
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
start would not mend, or another process is at it. down: it could not be started."""

_PATIENCE_S = 600.0
"""How long a server that gave no token in time may take at the second look: it may just be busy."""


@dataclass(frozen=True)
class Looked:
    """What became of one deployment; `words` say what was found and done."""

    name: str
    outcome: Outcome
    words: str


def heal(home: Path, *, restart: bool, say: Say) -> list[Looked]:
    """Look at every deployment of home, start again what is down, and return what became of each.

    Without `restart` it only looks. A deployment that cannot be started does not keep the others
    from being looked at.
    """
    return list(_healed(home, status(home), restart=restart, say=say))


def can_be_started(found: DeploymentStatus) -> bool:
    """Return whether a start brings the deployment back, and does neither harm nor nothing."""
    # One without a record that can be read cannot be started again.
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
        say(f"{found.name}: start again")
        again(record, home, say=say)
    except LockBusy as error:
        return Looked(found.name, "left alone", f"{problem}; {error.found}")
    except KawanUsahaError as error:
        return Looked(found.name, "down", f"{problem}; {error}")
    return Looked(found.name, "healed", f"{problem}; it was started again")


def _answers_late(home: Path, name: str) -> bool:
    """Return whether a token comes out after all, given much more time."""
    again = status(home, generate_s=_PATIENCE_S)
    return any(each.name == name and each.health != "unhealthy" for each in again)
