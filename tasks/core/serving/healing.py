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
from tasks.core.locks import Say
from tasks.core.serving.deployment import deploy, restore
from tasks.core.serving.state import Deployment, read_previous, state_directory
from tasks.core.serving.status import DeploymentStatus, status

Remedy = Literal["start again", "restore"]
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


def remedy_for(found: DeploymentStatus, previous: Deployment | None) -> Remedy | None:
    """Return what brings the deployment back, None where a start would do harm or mend nothing.

    previous is the record of the deployment whose replacement was cut off, if one was.
    """
    if found.health == "gone":
        return "restore" if previous is not None else "start again"
    # One without a record that can be read cannot be started again.
    return "start again" if found.health == "unhealthy" and found.deployment else None


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
    try:
        remedy = remedy_for(found, read_previous(state_directory(home, found.name)))
        if remedy is None or (found.health == "unhealthy" and _answers_late(home, found.name)):
            return Looked(found.name, "left alone", problem)
        say(f"{found.name}: {remedy}")
        if remedy == "restore":
            restore(home, found.name, say=say)
        else:
            _start_again(home, found, say)
    except LockBusy as error:
        return Looked(found.name, "left alone", f"{problem}; {error.found}")
    except KawanUsahaError as error:
        return Looked(found.name, "down", f"{problem}; {error}")
    return Looked(found.name, "healed", f"{problem}; it was started again")


def _start_again(home: Path, found: DeploymentStatus, say: Say) -> None:
    record = found.deployment
    if record is None:
        raise ValueError(f"{found.name} has no record")
    deploy(
        record.model,
        record.settings,
        name=record.name,
        template=record.template,
        home=home,
        build=record.build,
        expected_edit=record.expected_edit,
        say=say,
    )


def _answers_late(home: Path, name: str) -> bool:
    """Return whether a token comes out after all, given much more time."""
    again = status(home, generate_s=_PATIENCE_S)
    return any(each.name == name and each.health != "unhealthy" for each in again)
