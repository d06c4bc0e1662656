"""The common part of the engines whose process is this project's own."""

import os
from collections.abc import Mapping

import psutil
from pydantic import ValidationError

from tasks.core.serving.client.request import bad_answer, request_text
from tasks.core.serving.engines.base import Engine, Launch
from tasks.core.serving.engines.process_arguments import EngineArguments
from tasks.core.serving.proof.readiness import (
    REPORT_ROUTE,
    EngineReport,
    Expectation,
    require_as_expected,
)
from tasks.core.system.cores import usable_cores

_GPU_THREADS = 4


class OwnEngine(Engine):
    """An engine whose process proves itself before its port opens."""

    embeds = True
    most_stops = None
    stop_wait_s = 10.0
    stops_as_group = True

    def arguments(self, launch: Launch) -> EngineArguments:
        """Return what the process is told."""
        settings = launch.settings
        return EngineArguments(
            # Relative: the process sees nothing of the path but this neutral name.
            model=launch.model.name,
            model_name=settings.model_name,
            template=launch.template,
            port=launch.port,
            device=settings.device,
            gpus=settings.gpus,
            dtype=launch.dtype,
            load_8bit=settings.load_8bit,
            running=settings.gateway.max_running,
            waiting=settings.gateway.max_queued,
            takes=tuple(sorted(self.takes)),
        )

    def environment(self, launch: Launch) -> Mapping[str, str]:
        """Return the number of threads, and that FastChat writes no log files of its own."""
        return {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(_threads(launch)),
            # Empty, because its files grow without limit; supervisord keeps the logs.
            "LOGDIR": "",
        }

    def prove(self, url: str, expectation: Expectation) -> EngineReport:
        """Return the process's report; it proved the same before it opened its port."""
        where = url + REPORT_ROUTE
        try:
            report = EngineReport.model_validate_json(request_text("GET", where))
        except ValidationError as error:
            raise bad_answer("Another server answers there.", where, error) from error
        if report.build != expectation.build:
            raise bad_answer(
                "The engine serves another build.", where, report.build, expectation.build
            )
        require_as_expected(expectation, report)
        return report


def _threads(launch: Launch) -> int:
    """Return a thread a core that this process may use; a GPU needs few of the host's."""
    usable = usable_cores()
    cores = min(usable, psutil.cpu_count(logical=False) or usable)
    return cores if launch.settings.device == "cpu" else min(cores, _GPU_THREADS)
