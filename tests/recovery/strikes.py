"""What is killed, and where a run is then: the moments are known by what lies in its staging."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tasks.core.home import PROJECT
from tests.recovery.machine import SLOW_DISK, WORKER, Machine
from tests.recovery.processes import (
    everything,
    flow_process,
    is_alive,
    is_running,
    kill,
    of_run,
    supervised,
    trainers,
)
from tests.tiny_world import Held

Strike = Callable[[Machine, UUID], None]


@dataclass(frozen=True)
class Moment:
    """A stage at work: so many files it has to have done, or the program that has to be running.

    `env` is the environment in which it takes long.
    """

    stage: str
    done: str = "*"
    at_least: int = 0
    program: str = ""
    env: tuple[tuple[str, str], ...] = ()

    def is_now(self, machine: Machine) -> bool:
        """Return whether the stage is at work and has done so much."""
        staging = machine.staging(self.stage)
        if staging is None or len(list(staging.glob(self.done))) < self.at_least:
            return False
        return not self.program or is_running(machine.prefect.at, self.program)


DOWNLOAD = Moment("download", "*.safetensors", 3)
MERGE = Moment("merge", "*.safetensors*", 1, env=(("PYTHONPATH", f"{PROJECT}:{SLOW_DISK}"),))
FINETUNE = Moment("finetune", "work/checkpoints/*/whole.json", 1)
EVALUATE = Moment("evaluate", program="tasks.core.evaluation.entry")


@contextmanager
def held_back(machine: Machine, moment: Moment) -> Iterator[None]:
    """Keep a download from its end during the block."""
    held = Held()
    if moment.stage == "download":
        machine.world.faults.add(held, "base/resolve/.*00004-of")
    yield
    machine.world.faults.plans.remove(held)


def kill_flow(machine: Machine, run: UUID) -> None:
    """Kill the process of the flow alone."""
    kill([flow_process(machine.prefect.at, run)])


def kill_worker(machine: Machine, run: UUID) -> None:
    """Kill the worker of the pool, whose runs are its children."""
    kill([supervised(machine.prefect.at, WORKER)])


def kill_server(machine: Machine, run: UUID) -> None:
    """Kill the server, which supervisord starts again."""
    kill([supervised(machine.prefect.at, "server")])


def kill_everything(machine: Machine, run: UUID) -> None:
    """Do what a power cut does, and start Prefect again as after the next boot."""
    kill(everything(machine.prefect.at))
    machine.up()


def starve(machine: Machine, group: Path) -> None:
    """Move the training into a control group in which there is next to no memory left."""
    processes = trainers(machine.prefect.at)
    for process in processes:
        process.suspend()
        (group / "cgroup.procs").write_text(str(process.pid))
    time.sleep(2.0)  # so that whoever watches the group sees it before something is killed in it
    for process in processes:
        process.resume()


def cancel(machine: Machine, run: UUID) -> tuple[float, float]:
    """Cancel the run; return the seconds until nothing of it was alive, and until it said so."""
    family = of_run(machine.prefect.at)
    begun = time.monotonic()
    machine.cancel(run)
    gone_s = said_s = 0.0
    has_ended = machine.ended(run, "CANCELLED", "COMPLETED", "FAILED", "CRASHED")
    while not (gone_s and said_s):
        now = time.monotonic() - begun
        lives = any(map(is_alive, family)) or of_run(machine.prefect.at)
        gone_s = gone_s or (0.0 if lives else now)
        said_s = said_s or (now if has_ended() else 0.0)
        time.sleep(0.1)
    return gone_s, said_s
