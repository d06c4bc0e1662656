"""What was done again because something was killed: whole artifacts, files, training steps."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.core.store.manifest import Manifest
from tests.recovery.machine import Machine

_STEP = "@kawan-usaha-step "


@dataclass(frozen=True)
class Struck:
    """How far a machine was when it was struck in a stage: what was whole, what had been begun.

    `files` are those of the staging directory with their times; `step` is the last of the training.
    """

    stage: str
    at: float
    began_at: float
    artifacts: dict[str, Manifest]
    files: dict[str, int]
    checkpoint_at: float | None
    step: int
    served_bytes: int

    @classmethod
    def now(cls, machine: Machine, stage: str, began_at: float) -> "Struck":
        """Return how far the machine is."""
        staging = machine.staging(stage)
        files = _times(staging) if staging else {}
        whole = [t for name, t in files.items() if name.endswith("whole.json")]
        return cls(
            stage=stage,
            at=time.time(),
            began_at=began_at,
            artifacts=machine.manifests(),
            files=files,
            checkpoint_at=max(whole) / 1e9 if whole else None,
            step=last_step(machine.home),
            served_bytes=weights_served(machine),
        )


@dataclass(frozen=True)
class Again:
    """What was done a second time: artifacts that were whole before, and all of it in words."""

    whole: tuple[str, ...]
    words: str


def redone(machine: Machine, struck: Struck) -> Again:
    """Return what the machine did a second time, and how long that had taken the first time."""
    whole = tuple(_made_again(machine, struck))
    if not whole:
        return Again((), _work(machine, struck))
    size = sum(struck.artifacts[name].size_bytes for name in whole)
    return Again(whole, f"**{', '.join(whole)}** ({size:,} bytes)")


def _made_again(machine: Machine, struck: Struck) -> list[str]:
    made = machine.manifests()
    return sorted(
        name
        for name, before in struck.artifacts.items()
        if name not in made or made[name].created_at != before.created_at
    )


def _work(machine: Machine, struck: Struck) -> str:
    """Return in words what of the stage that was struck was done twice."""
    made = machine.manifests()
    here = [name for name in made if name.startswith(f"{struck.stage}-")]
    mine = [machine.home / "store" / name for name in here if name not in struck.artifacts]
    if not struck.files or not mine:
        return "nothing"
    if struck.stage == "finetune":
        return _steps(machine, struck)
    if struck.stage == "download":
        size = sum(made[path.name].size_bytes for path in mine)
        return _bytes(machine, struck, size)
    return _files(struck, mine[0])


def last_step(home: Path) -> int:
    """Return the last step that any training here has logged in the newest log."""
    logs = sorted(home.glob("logs/*/finetune-*.log"), key=lambda path: path.stat().st_mtime)
    return (_logged(logs[-1]) or [0])[-1] if logs else 0


def _logged(log: Path) -> list[int]:
    said = [line.split(_STEP, 1)[1] for line in log.read_text().splitlines() if _STEP in line]
    return [int(json.loads(words)["step"]) for words in said]


def weights_served(machine: Machine) -> int:
    """Return how many bytes of weights the Hub has sent so far."""
    return sum(one.body_bytes for one in machine.world.faults.requests("safetensors"))


def _steps(machine: Machine, struck: Struck) -> str:
    logs = machine.home.glob("logs/*/finetune-*.log")
    mine = [log for log in logs if log.stat().st_mtime >= struck.began_at]
    steps = [step for log in mine for step in _logged(log)]
    again = len(steps) - len(set(steps))
    lost_s = struck.at - (struck.checkpoint_at or struck.began_at) if again else 0.0
    return f"{again} steps of {struck.step}, {lost_s:.1f} s" if again else "nothing"


def _bytes(machine: Machine, struck: Struck, size_bytes: int) -> str:
    return f"{weights_served(machine) - struck.served_bytes:,} bytes sent of {size_bytes:,}"


def _files(struck: Struck, artifact: Path) -> str:
    after = _times(artifact)
    kept = [name for name, changed in struck.files.items() if after.get(name) == changed]
    again = [name for name in struck.files if name not in kept and name in after]
    since = max((struck.files[name] / 1e9 for name in kept), default=struck.began_at)
    lost_s = struck.at - since
    return f"{len(again)} of {len(struck.files)} files, {lost_s:.1f} s" if again else "nothing"


def _times(directory: Path) -> dict[str, int]:
    found = {}
    for path in directory.rglob("*"):
        try:
            if path.is_file():
                found[str(path.relative_to(directory))] = path.stat().st_mtime_ns
        except FileNotFoundError:  # renamed meanwhile
            continue
    return found
