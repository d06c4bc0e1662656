"""From files on the disk to servers that answer: supervisord, the controller, then the other two.

Worker and API server are started when the controller answers, because the worker registers with it;
they load at the same time, and the API server is asked last, because it offers what the worker has.
The invariant: the first end of any process is the end of the start; supervisord's restarts
are for servers that have served.
"""

import logging
import os
import time
from collections.abc import Callable

from tasks.core.devices import SERVED_FROM, served_from
from tasks.core.errors import ServingFailed
from tasks.core.process.oom import OomWatch
from tasks.core.serving import probe
from tasks.core.serving.causes import explain_end, log_tail
from tasks.core.serving.control import Supervisor, start_supervisor
from tasks.core.serving.processes import marked_environment
from tasks.core.serving.state import Deployment, StateDirectory

logger = logging.getLogger(__name__)

_POLL_S = 0.25


class Startup:
    """One start of a prepared deployment."""

    def __init__(self, state: StateDirectory, deployment: Deployment) -> None:
        self._state = state
        self._deployment = deployment
        self._deadline = time.monotonic() + deployment.settings.startup_timeout_s
        self._supervisor = Supervisor(deployment.socket)
        self._memory = OomWatch()

    def run(self) -> None:
        """Return when all three processes answer.

        Raises what `explain_end` makes of a process that ended, or ServingFailed when the time is
        over. Whatever was started is still running then.
        """
        urls = self._deployment.endpoints
        settings = self._deployment.settings
        devices = served_from(settings.device, settings.gpus)
        start_supervisor(
            self._state.supervisor_config,
            directory=self._state.root,
            logs=self._state.logs,
            environment={
                **marked_environment(self._state.root, os.environ),
                SERVED_FROM: devices,
            },
        )
        self._start("controller")
        self._wait_for("controller", lambda: probe.require_controller(urls.controller))
        self._start("worker")
        self._start("api")
        self._wait_for("worker", lambda: probe.worker_report(urls.worker))
        self._wait_for("api", lambda: probe.require_offered(self._deployment))

    def _start(self, name: str) -> None:
        logger.info("starting the %s", name)
        self._supervisor.start(name)

    def _wait_for(self, name: str, question: Callable[[], object]) -> None:
        while (unanswered := _failure_of(question)) is not None:
            self._require_alive()
            if time.monotonic() > self._deadline:
                raise ServingFailed(
                    f"The {name} does not answer within deploy.startup_timeout_s.",
                    where=unanswered.where,
                    found=f"{unanswered.what}\n{log_tail(self._state, name)}",
                    next_step="Read the end of its log above, or give it more time: "
                    "deploy.startup_timeout_s in the recipe, `--startup-timeout-s` of the command.",
                )
            time.sleep(_POLL_S)

    def _require_alive(self) -> None:
        for process in self._supervisor.processes().values():
            if process.ended:
                raise explain_end(
                    self._state,
                    process.name,
                    oom_kills=self._memory.kills(),
                    load_8bit=self._deployment.settings.load_8bit,
                )
            if process.pid is not None:
                self._memory.add(process.pid)


def _failure_of(question: Callable[[], object]) -> ServingFailed | None:
    try:
        question()
    except ServingFailed as error:
        return error
    return None
