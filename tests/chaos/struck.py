"""One build while it is struck: the plan says what is killed, and a person sees to the rest."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.serving.observe.status import status
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.supervision.processes import own_processes
from tests.chaos.operator import Operator
from tests.chaos.plan import Plan
from tests.chaos.victims import Kind, Stage, stage_at_work, victims
from tests.chaos.watching import Watched
from tests.prefect_command import HANG_S
from tests.recovery.machine import Machine
from tests.recovery.processes import kill

_LOOK_S = 0.02
_ASK_S = 0.5
_BY_ITSELF_S = 60.0
"""How long a deployment may take to come back before a person starts it."""


@dataclass
class Struck:
    """One build while it is struck."""

    machine: Machine
    plan: Plan
    operator: Operator
    state: StateDirectory
    struck_in: Stage | None = None
    """The stage that a process was killed in, as long as it goes on."""
    idle: bool = False
    """No stage has worked since one was struck between two: the next one comes first."""

    def until_completed(self, watched: Watched) -> None:
        """Kill what is due, and have the operator go on, until the run is Completed."""
        stage, due, last, asked = None, float("inf"), time.monotonic(), 0.0
        while True:
            now = self.at_work()
            if now != stage:
                stage, due = now, self._next(now)
            if now != "between":
                self.idle = False
            if now != self.struck_in:
                self.struck_in = None
            if time.monotonic() >= due and self._strike(now, watched):
                self.idle, self.struck_in = now == "between", now
                stage, last = None, time.monotonic()
            if now == "between" and time.monotonic() - asked > _ASK_S:
                if self.operator.look():
                    return
                asked = time.monotonic()
            assert time.monotonic() - last < HANG_S, "nothing has come of it for too long"
            time.sleep(_LOOK_S)

    def what_serves(self, watched: Watched) -> None:
        """Kill what serves when the run is over, and wait each time until it answers again."""
        while self.plan.owes("served"):
            time.sleep(self.plan.moment_s("served"))
            if self._strike("served", watched):
                self._wait_for_health()
        self._wait_for_health()

    def at_work(self) -> Stage:
        """Return the stage that works now."""
        return stage_at_work(self.machine.home, self.state)

    def _next(self, stage: Stage) -> float:
        if not self.plan.owes(stage) or (stage == "between" and self.idle):
            return float("inf")
        gap_s = self.plan.gap_s() if stage == self.struck_in else 0.0
        return time.monotonic() + gap_s + self.plan.moment_s(stage)

    def _strike(self, stage: Stage, watched: Watched) -> bool:
        """Kill a process of the kind whose turn it is; return whether there was one."""
        run = None if stage == "served" else self.operator.run
        there = victims(self.machine, run, self.state)
        if not there:
            return False
        kind: Kind = self.plan.kind(stage, there)
        victim = self.plan.chance.choice(there[kind])
        words = _words(victim)
        if stage != "served":
            stage = self.at_work()
        if not kill([victim]):
            return False
        self.plan.struck(kind, stage)
        self._say(f"{kind} in {stage}: {words}")
        watched.require_whole()
        return True

    def _say(self, line: str) -> None:
        self.plan.log.append(line)
        print(f"{time.strftime('%T')} kill {len(self.plan.log)}: {line}", flush=True)  # noqa: T201

    def _wait_for_health(self) -> None:
        """Return when it answers. Where nothing brings it back for a minute, a person does."""
        began = time.monotonic()
        while [each.health for each in status(self.machine.home)] != ["healthy"]:
            waited_s = time.monotonic() - began
            assert waited_s < HANG_S, status(self.machine.home)
            if waited_s > _BY_ITSELF_S and not own_processes(self.state.root):
                self.operator.resumed["nothing serves: start"] += 1
                self.machine.prefect.kawan_usaha("start", self.state.name)
            time.sleep(0.5)


def _words(process: Any) -> str:
    try:
        return " ".join(Path(word).name for word in process.cmdline()[:6])[:90]
    except Exception:  # noqa: BLE001 - it has ended
        return "?"
