"""A person who sees to it that a killed run goes on: by Retry, by a new run, or by waiting.

What comes back by itself is left to come back, for as long as `PATIENT_S`, in a share of the cases
that the seed chooses; else the person does not wait. Nothing is touched while a run is at work.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectHTTPStatusError

from tests.chaos.victims import run_process
from tests.prefect_command import HANG_S
from tests.recovery.machine import SIDE_BY_SIDE, Machine

PATIENT_S = 240.0
"""More than the automations and the recovery take: 70 s of silence, 45 s until the restart."""
_PATIENCE = 0.05
_SETTLES_S = 15.0
"""How long a run may count as running, or about to, without a process, before a person acts."""
_NO_ANSWER = (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError)
"""What comes of asking a server that is killed, or starts."""


@dataclass
class Operator:
    """Resumes the run of a recipe. `resumed` counts by what it came back."""

    machine: Machine
    chance: Random
    resumed: Counter[str]
    failures: list[str]
    run: UUID | None = None
    runs: list[UUID] = field(default_factory=list)
    _since: float = 0.0
    _seen: str = ""
    _waits_s: float = 0.0

    def start(self) -> None:
        """Start a run of the recipe, as soon as there is a server that takes it."""
        give_up = time.monotonic() + HANG_S
        while True:
            try:
                self.run = self.machine.start(SIDE_BY_SIDE, until="deploy")
                self.runs.append(self.run)
                return
            except _NO_ANSWER:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)

    def look(self) -> bool:
        """Return whether the run is Completed; see to it that it goes on where nothing works."""
        assert self.run is not None
        if run_process(self.machine, self.run) is not None:
            self._seen, self._waits_s = "", 0.0
            return False
        try:
            return self._go_on(self.run)
        except _NO_ANSWER:
            return False

    def rest(self) -> None:
        """Return when none of the runs works, or would go on by itself."""
        self._wait_until(lambda state: state.is_final() or state.is_cancelling())
        for run in self.runs:
            if (state := self._state(run)) is not None and state.is_crashed():
                self.machine.set_state(run, {"type": "CANCELLED"}, force=True)

    def require_ended(self, runs: Iterable[UUID]) -> None:
        """Return when all of these runs have ended, which nobody does any more."""
        self.runs = list(runs)
        self._wait_until(lambda state: state.is_final())

    def _wait_until(self, condition: Callable[[State[Any]], bool]) -> None:
        give_up = time.monotonic() + HANG_S
        for run in self.runs:
            while (state := self._state(run)) is None or not condition(state):
                assert time.monotonic() < give_up, f"run {run} does not end: {state}"
                if state is not None and not state.is_cancelling():
                    self._cancel(run)
                time.sleep(0.5)

    def _go_on(self, run: UUID) -> bool:
        state = self._state(run)
        if state is None or run_process(self.machine, run) is not None:
            return False
        if state.is_completed():
            return True
        if state.is_scheduled() and self._waits_s:
            self.resumed["by itself"] += 1
            self._waits_s = 0.0
        if f"{run} {state.id}" != self._seen:
            self._seen, self._since = f"{run} {state.id}", time.monotonic()
            is_down = state.is_crashed() or state.is_running()
            patient = is_down and self.chance.random() < _PATIENCE
            self._waits_s = PATIENT_S if patient else 0.0
        waited_s = time.monotonic() - self._since
        if waited_s < self._waits_s:
            return False
        if state.is_crashed() or state.is_failed():
            if state.is_failed():
                self.failures.append(str(state.message).splitlines()[0])
            self._note(state, "Retry")
            self.machine.retry(run)
        elif state.is_cancelled():
            self._note(state, "a new run")
            self.start()
        elif state.is_running() or state.is_pending():
            if waited_s > self._waits_s + _SETTLES_S:
                self._note(state, "Cancel and a new run")
                self._cancel(run)
                self.start()
        else:
            assert waited_s < HANG_S, f"nobody takes the run: {state}"
        return False

    def _note(self, state: State[Any], how: str) -> None:
        waited = ", waited for in vain" if self._waits_s else ""
        self.resumed[f"{state.name}{waited}: {how}"] += 1
        self._waits_s = 0.0

    def _cancel(self, run: UUID) -> None:
        try:
            self.machine.cancel(run)
        except _NO_ANSWER:
            return

    def _state(self, run: UUID) -> State[Any] | None:
        try:
            states = self.machine.states(run)
        except _NO_ANSWER:
            return None
        return states[-1] if states else None
