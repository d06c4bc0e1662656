"""The interface of an engine: how its process is started, checked, proven and ended.

An engine's process speaks the engine protocol (protocol.md in this directory) on loopback. Nothing
here computes; the modules that run in the process itself are the only ones that import torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from tasks.core.process.environment import SUPERVISED
from tasks.core.process.quick_start import quick_start
from tasks.core.recipe import Dtype
from tasks.core.recipe.deploy import Deploy, EngineName
from tasks.core.serving.client.request import request_text
from tasks.core.serving.proof.readiness import EXPECTATION_VARIABLE, EngineReport, Expectation
from tasks.core.serving.supervision.process_spec import ProcessSpec


@dataclass(frozen=True)
class Launch:
    """The parameters of one process of an engine.

    model is a link to the model directory under a neutral name (`model`), because FastChat reads
    the path; its parent directory belongs to this start alone, with modules (the cache for the
    model's own code) and expectation (what the process must prove). cpu_dtype is the type to
    compute in on a CPU; on a GPU the engine chooses.
    """

    settings: Deploy
    template: str
    model: Path
    port: int
    cpu_dtype: Dtype

    @property
    def directory(self) -> Path:
        """The directory of this start."""
        return self.model.parent

    @property
    def modules(self) -> Path:
        """The cache for the code that comes with the model."""
        return self.directory / "modules"

    @property
    def expectation(self) -> Path:
        """The file that holds what must be proven before the first request."""
        return self.directory / "expectation.json"

    @property
    def url(self) -> str:
        """Where the process listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dtype(self) -> Dtype | None:
        """The type to compute in; None: the engine's choice."""
        return self.cpu_dtype if self.settings.device == "cpu" else None


class Engine(ABC):
    """One way to compute answers."""

    name: ClassVar[EngineName]
    module: ClassVar[str]
    """The module whose main its process runs, with one argument: `--settings`, as JSON."""
    takes: ClassVar[frozenset[str]]
    """The optional fields of a completion request that it supports."""
    embeds: ClassVar[bool]
    """Whether it answers /v1/embeddings."""
    most_stops: ClassVar[int | None]
    """How many stop strings it accepts, including the template's; None: any number."""
    stop_wait_s: ClassVar[float]
    """How long its process may take to end on SIGTERM."""
    stops_as_group: ClassVar[bool]
    """Whether SIGTERM goes to its whole process group, and not to its first process alone."""

    @abstractmethod
    def check(self, settings: Deploy) -> None:
        """Raise RecipeError for settings that the engine does not support."""

    @abstractmethod
    def arguments(self, launch: Launch) -> BaseModel:
        """Return the arguments of the process. Raises RecipeError if it cannot run."""

    @abstractmethod
    def environment(self, launch: Launch) -> Mapping[str, str]:
        """Return the environment variables that this engine's process needs in addition."""

    def process(self, launch: Launch) -> ProcessSpec:
        """Return the process, named `engine`, of lowest priority 1. Raises as `arguments` does."""
        told = self.arguments(launch).model_dump_json()
        return ProcessSpec(
            name="engine",
            argv=tuple(quick_start(self.module, "--settings", told)),
            env={**_environment(launch), **self.environment(launch)},
            cwd=launch.directory,
            priority=1,
            stop_wait_s=self.stop_wait_s,
            stops_as_group=self.stops_as_group,
        )

    def ready(self, url: str) -> None:
        """Return if the process accepts requests. Raises ServingFailed while it does not."""
        request_text("GET", f"{url}/health")

    @abstractmethod
    def prove(self, url: str, expectation: Expectation) -> EngineReport:
        """Return the process's report, once it has proven the promised edit.

        Raises EditLost when it has another one, ServingFailed when it does not answer.
        """


def _environment(launch: Launch) -> Mapping[str, str]:
    env = {
        **SUPERVISED,
        "HF_MODULES_CACHE": str(launch.modules),
        EXPECTATION_VARIABLE: str(launch.expectation),
    }
    if launch.settings.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env
