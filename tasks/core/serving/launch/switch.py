"""Switching from one deployment to another, without downtime if there is room for both.

Three ways: `first`, when nothing serves or the address changes; `side-by-side`, when the old one
serves until the new one is proven; `replace`, when there is no room for both. The invariant: only
what is proven gets traffic, and after an error the earlier deployment serves, or the error says why
it does not.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.core.errors import ServingFailed
from tasks.core.files.locks import Say
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.health import probe
from tasks.core.serving.launch.steps import REPLACING, Steps
from tasks.core.serving.launch.way_back import add, keep_log, start_once_more
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import read_record, write_record
from tasks.core.serving.state.record import Deployment, Switched
from tasks.core.serving.supervision.supervisord import Supervisor

if TYPE_CHECKING:
    from tasks.core.serving.launch.shadow import ShadowQuestions


class Switch:
    """One switch from what serves (`earlier`, None for nothing) to `wanted`.

    prompts are used for comparison if no client has sent a request.
    """

    def __init__(
        self,
        state: StateDirectory,
        wanted: Deployment,
        earlier: Deployment | None,
        say: Say,
        prompts: Sequence[str] = (),
    ) -> None:
        self._state = state
        self._wanted = wanted
        self._earlier = earlier
        self._say = say
        self._prompts = prompts
        self._steps = Steps(state, wanted, say)
        self._supervisor = Supervisor(state.socket)
        self._gateway = GatewayControl(state.gateway_socket)

    def run(self) -> Deployment:
        """Return the wanted deployment once it serves."""
        earlier = self._earlier
        if earlier is None or not self._serves(earlier):
            how = self._first(None)
        elif _moved(earlier, self._wanted):
            how = self._first(earlier)
        elif earlier.same_engine(self._wanted):
            return self._new_gateway(earlier)
        elif self._wanted.settings.switch == "side-by-side":
            how = self._beside(earlier)
        else:
            how = self._in_place_of(earlier)
        return self._wanted.model_copy(update={"switched": how})

    def _first(self, serving: Deployment | None) -> Switched:
        """Start everything; serving is what answers until then, at another address."""
        wanted, began = self._wanted, time.monotonic()
        asked = self._questions(serving)
        done = Switched(how="first")

        def compare() -> None:
            nonlocal done
            done = self._compared(asked, done)

        try:
            self._steps.start_all(wanted, compare)
        except BaseException as error:
            self._fall_back(error)
            raise
        if self._earlier is not None and self._earlier.slot != wanted.slot:
            self._state.slot(self._earlier.slot).retire()
        gap_s = time.monotonic() - began if self._earlier else 0.0
        return done.model_copy(update={"gap_s": gap_s})

    def _beside(self, earlier: Deployment) -> Switched:
        wanted = self._wanted
        try:
            self._steps.start_engine(wanted, beside=earlier)
            done = self._compared(self._questions(earlier), Switched(how="side-by-side"))
            write_record(self._state, wanted)
            self._steps.route_to(wanted)
        except BaseException as error:
            self._steps.route_back_to(earlier)
            self._steps.abandon(wanted)
            add(error, f"The earlier deployment keeps serving at {earlier.base_url}.")
            raise
        cut_off = self._steps.retire(earlier)
        self._steps.renew(earlier)
        return done.model_copy(update={"cut_off": cut_off})

    def _in_place_of(self, earlier: Deployment) -> Switched:
        wanted = self._wanted
        asked = self._questions(earlier)
        began = time.monotonic()
        try:
            self._steps.route_nowhere(REPLACING)
            cut_off = self._steps.drain(earlier)
            self._supervisor.unload(earlier.slot)
            self._steps.start_engine(wanted, beside=None)
            done = self._compared(asked, Switched(how="replace"))
            write_record(self._state, wanted)
            self._steps.route_to(wanted)
        except BaseException as error:
            self._steps.abandon(wanted)
            if earlier.slot in self._supervisor.processes():  # it was not stopped yet
                self._steps.route_back_to(earlier)
            else:
                self._start_again(earlier, error)
            raise
        gap_s = time.monotonic() - began
        self._say(f"Clients were told to retry later for {gap_s:.0f} s.")
        self._state.slot(earlier.slot).retire()
        self._steps.renew(earlier)
        return done.model_copy(update={"gap_s": gap_s, "cut_off": cut_off})

    def _new_gateway(self, earlier: Deployment) -> Deployment:
        """Keep the engine, and apply the new settings to the gateway."""
        kept = self._wanted.model_copy(
            update={
                **{name: getattr(earlier, name) for name in ("slot", "engine_port", "started_at")},
                "switched": Switched(how="side-by-side"),
            }
        )
        write_record(self._state, kept)
        self._steps.route_to(kept)
        self._steps.configure(kept, kept)
        self._steps.renew(earlier)
        probe.require_healthy(self._state, kept)
        return kept

    # --- the comparison -----------------------------------------------------------------------

    def _questions(self, serving: Deployment | None) -> "ShadowQuestions":
        """Collect what both are asked, with the answers of the one that still serves."""
        recent = self._gateway.recent() if serving else []
        # It imports the gateway's types, half of what a run with nothing new would import.
        from tasks.core.serving.launch.shadow import questions

        return questions(recent, self._prompts, self._wanted, serving, say=self._say)

    def _compared(self, asked: "ShadowQuestions", how: Switched) -> Switched:
        from tasks.core.serving.launch.shadow import replay

        shadow = replay(asked, self._wanted, say=self._say)
        return how.model_copy(
            update={"shadow": shadow, "asked": asked.source, "not_asked": asked.not_asked}
        )

    # --- back to the earlier one ----------------------------------------------------------------

    def _fall_back(self, error: BaseException) -> None:
        """Restart the earlier deployment, if there was one, and add the result to the error."""
        earlier = self._earlier
        if earlier is None or read_record(self._state, earlier.slot) is None:
            return
        if earlier.slot == self._wanted.slot:  # the same one, which stays on record
            add(error, f"`kawan-usaha start {self._state.name}` tries again.")
            return
        keep_log(self._state, self._wanted.slot)
        start_once_more(self._state, earlier, error, lambda: self._steps.start_all(earlier))

    def _start_again(self, earlier: Deployment, error: BaseException) -> None:
        def start() -> None:
            self._steps.start_engine(earlier, beside=None)
            write_record(self._state, earlier)
            self._steps.route_to(earlier)

        start_once_more(self._state, earlier, error, start)

    # --- what is there ------------------------------------------------------------------------

    def _serves(self, earlier: Deployment) -> bool:
        try:
            route = self._gateway.state().route
            runs = earlier.slot in self._supervisor.processes()
            return runs and route is not None and route.slot == earlier.slot
        except ServingFailed:
            return False


def _moved(earlier: Deployment, wanted: Deployment) -> bool:
    """Return whether the address for clients changes."""
    old, new = earlier.settings.gateway, wanted.settings.gateway
    return (old.host, old.port) != (new.host, new.port)
