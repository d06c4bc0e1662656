"""What the engines have in common whose process is this project's: how it is started and asked."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import psutil
from pydantic import ValidationError

from tasks.core.recipe import Dtype
from tasks.core.serving.asked import asked, failed
from tasks.core.serving.engines.base import Engine, Launch
from tasks.core.serving.engines.process_arguments import Arguments
from tasks.core.serving.process_spec import ProcessSpec
from tasks.core.serving.report import (
    EXPECTATION_VARIABLE,
    REPORT_ROUTE,
    EngineReport,
    Expectation,
    require_as_expected,
)

_PACKAGE_ROOT = Path(__file__).resolve().parents[4]
_GPU_THREADS = 4


class OwnEngine(Engine):
    """An engine whose process runs `module` and proves itself before its port opens."""

    module: ClassVar[str]
    embeds = True
    stop_wait_s = 10.0
    stops_as_group = True

    def dtype(self, launch: Launch) -> Dtype | None:
        """Return what the process computes in; None: its own choice."""
        return launch.cpu_dtype if launch.settings.device == "cpu" else None

    def process(self, launch: Launch) -> ProcessSpec:
        """Return the process that serves `launch`."""
        settings = launch.settings
        arguments = Arguments(
            # Relative: the process sees nothing of the path but this neutral name.
            model=launch.model.name,
            model_name=settings.model_name,
            template=launch.template,
            port=launch.port,
            device=settings.device,
            gpus=settings.gpus,
            dtype=self.dtype(launch),
            load_8bit=settings.load_8bit,
            running=settings.gateway.max_running,
            waiting=settings.gateway.max_queued,
            takes=tuple(sorted(self.takes)),
        )
        return ProcessSpec(
            name="engine",
            # -P: a `torch.py` in the working directory must not be imported in place of torch.
            argv=(
                *(sys.executable, "-P", "-m", self.module),
                *("--settings", arguments.model_dump_json()),
            ),
            env=_environment(launch),
            cwd=launch.directory,
            priority=1,
            stop_wait_s=self.stop_wait_s,
            stops_as_group=self.stops_as_group,
        )

    def ready(self, url: str) -> None:
        """Return when the process takes requests. Raises ServingFailed while it does not."""
        asked("GET", f"{url}/health")

    def prove(self, url: str, expectation: Expectation) -> EngineReport:
        """Return what the process holds; it has proven the same before it opened its port."""
        where = url + REPORT_ROUTE
        try:
            report = EngineReport.model_validate_json(asked("GET", where))
        except ValidationError as error:
            raise failed("Another server answers there.", where, error) from error
        if report.build != expectation.build:
            raise failed("The engine serves another build.", where, report.build, expectation.build)
        require_as_expected(expectation, report)
        return report


def _environment(launch: Launch) -> Mapping[str, str]:
    env = {
        "PYTHONPATH": str(_PACKAGE_ROOT),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(launch.modules),
        "TOKENIZERS_PARALLELISM": "false",
        # Waiting threads sleep. Spinning, OpenMP's took four times the CPU beside other work.
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(_threads(launch)),
        # Empty: no log files of FastChat's own, which grow without limit; supervisord has the logs.
        "LOGDIR": "",
        EXPECTATION_VARIABLE: str(launch.expectation),
    }
    if launch.settings.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env


def _threads(launch: Launch) -> int:
    """Return a thread a core that this process may use; a GPU needs few of the host's."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    physical = psutil.cpu_count(logical=False)
    cores = max(1, min(count for count in (usable, physical) if count))
    return cores if launch.settings.device == "cpu" else min(cores, _GPU_THREADS)
