"""The command that starts the training processes, and the environment variables it needs.

A single process is started directly: like torch, DeepSpeed reads its rank from the environment.
Several on one machine are started by DeepSpeed's per-machine launcher, those of several machines by
its whole runner. Each of these programs imports torch and holds it until the training ends, so none
is started without need.
"""

import base64
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.errors import RecipeError
from tasks.core.process.quick_start import quick_start
from tasks.core.recipe import Finetune
from tasks.core.training.launch.hostfile import require_slots

ENTRY = "tasks.core.training.entry"
_LOOPBACK = "127.0.0.1"
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Command:
    """A program with its arguments, and the variables that it needs in addition."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def shell(self) -> str:
        """The same as one shell command line."""
        set_first = [f"{name}={value}" for name, value in self.environment.items()]
        return shlex.join([*(["env"] if set_first else []), *set_first, *self.argv])


def launch_command(
    settings: Finetune, job_file: Path, *, port: int, env: Mapping[str, str]
) -> Command:
    """Return the command that starts one process per device, here or on the hostfile's machines.

    Raises RecipeError if env shows fewer devices, or the hostfile another number.
    """
    if settings.hostfile is not None:
        require_slots(settings.hostfile, settings.processes)
        # pdsh would prefix each line with the machine's name, and no line would be read as a step.
        hostfile = str(settings.hostfile.resolve())
        runner = _python("-m", "deepspeed.launcher.runner", "--master_port", str(port))
        machines = ("--hostfile", hostfile, "--launcher_args=-N")
        return Command((*runner, *machines, "--module", ENTRY, str(job_file)))
    devices = _devices(settings, env)
    if len(devices) == 1:
        alone = _place_of_one(port)
        if settings.device == "cuda":
            alone[_VISIBLE] = str(devices[0])
        return Command(_python("-u", *quick_start(ENTRY, str(job_file))[1:]), alone)
    machine = base64.urlsafe_b64encode(json.dumps({"localhost": devices}).encode()).decode()
    launcher = _python("-m", "deepspeed.launcher.launch", f"--world_info={machine}")
    address = (f"--master_addr={_LOOPBACK}", f"--master_port={port}")
    return Command((*launcher, *address, "--module", ENTRY, str(job_file)))


def _python(*words: str) -> tuple[str, ...]:
    return (sys.executable, *words)


def _place_of_one(port: int) -> dict[str, str]:
    """Return the variables that DeepSpeed's launcher would give to a single process.

    Source: deepspeed/launcher/launch.py, 0.19.8.
    """
    return {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_SIZE": "1",
        "CROSS_RANK": "0",
        "CROSS_SIZE": "1",
        "MASTER_ADDR": _LOOPBACK,
        "MASTER_PORT": str(port),
    }


def _devices(settings: Finetune, env: Mapping[str, str]) -> list[int]:
    """Return the device number of each process: the first ones that the environment shows.

    DeepSpeed sets CUDA_VISIBLE_DEVICES to them, and would otherwise take the machine's first ones.
    """
    visible = [name.strip() for name in env.get(_VISIBLE, "").split(",") if name.strip()]
    if settings.device == "cpu" or not visible:
        return list(range(settings.processes))
    chosen = visible[: settings.processes]
    if len(chosen) < settings.processes or not all(name.isdecimal() for name in chosen):
        raise RecipeError(
            "The environment does not show as many GPUs by number as the recipe asks for.",
            where=_VISIBLE,
            expected=f"{settings.processes} numbers, as in 0,1",
            found=env[_VISIBLE],
            next_step=f"Set {_VISIBLE} to the numbers of the GPUs, or lower finetune.processes.",
        )
    return [int(name) for name in chosen]
