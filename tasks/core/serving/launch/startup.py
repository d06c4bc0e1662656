"""Starting an engine until it has proven what it holds.

The invariant: the first exit of the process ends the start; supervisord's restarts are for engines
that have served.
"""

import logging
import math
import time

from tasks.core.errors import ServingFailed
from tasks.core.process.oom import OomWatch
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.health import probe
from tasks.core.serving.launch.causes import explain_end, log_tail
from tasks.core.serving.launch.waiting import wait_for_answer
from tasks.core.serving.proof.readiness import EngineReport, Expectation
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.supervisord import Supervisor

logger = logging.getLogger(__name__)


class EngineStart:
    """One start of a deployment's engine, whose slot is prepared and loaded."""

    def __init__(self, state: StateDirectory, deployment: Deployment) -> None:
        self._state = state
        self._deployment = deployment
        self._deadline = time.monotonic() + deployment.settings.startup_timeout_s
        self._supervisor = Supervisor(state.socket)
        self._memory = OomWatch()

    def run(self, expectation: Expectation) -> EngineReport:
        """Return the engine's report once it has proven it and generated a few tokens.

        Raises EditLost when it holds another model, the error of `explain_end` for a process that
        exited, or ServingFailed after the timeout, when it may still run.
        """
        deployment = self._deployment
        engine = engine_of(deployment.settings.engine)
        logger.info("starting %s in slot %s", engine.name, deployment.slot)
        self._supervisor.start(deployment.slot)
        wait_for_answer(
            lambda: engine.ready(deployment.engine_url),
            deadline=self._deadline,
            require_alive=self._require_alive,
            late=self._late,
        )
        report = engine.prove(deployment.engine_url, expectation)
        probe.require_finite(deployment, engine, timeout_s=self._left_s())
        return report

    def _left_s(self) -> float:
        return math.ceil(max(1.0, self._deadline - time.monotonic()))

    def _late(self, unanswered: ServingFailed) -> ServingFailed:
        return ServingFailed(
            "The engine does not answer within deploy.startup_timeout_s.",
            where=unanswered.where,
            found=f"{unanswered.what}\n{log_tail(self._state, self._deployment.slot)}",
            next_step="Read the end of its log above, or give it more time: "
            "deploy.startup_timeout_s in the recipe, `--startup-timeout-s` of the command.",
        )

    def _require_alive(self) -> None:
        process = self._supervisor.processes()[self._deployment.slot]
        if process.ended:
            raise explain_end(
                self._state,
                self._deployment.slot,
                oom_kills=self._memory.kills(),
                load_8bit=self._deployment.settings.load_8bit,
            )
        if process.pid is not None:
            self._memory.add(process.pid)
