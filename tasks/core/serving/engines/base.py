"""What every engine is: how its process is started, asked, proven and ended.

An engine's process speaks the engine protocol (protocol.md in this directory) on loopback. Nothing
here computes; what runs in the process itself is in modules of their own, which alone import torch.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tasks.core.recipe import Dtype
from tasks.core.recipe_deploy import Deploy, EngineName
from tasks.core.serving.process_spec import ProcessSpec
from tasks.core.serving.report import EngineReport, Expectation


@dataclass(frozen=True)
class Launch:
    """What one process of an engine is started with.

    model is a link to the model directory under a neutral name (`model`), for FastChat reads the
    path; its parent directory belongs to this start alone: modules (the cache for the model's own
    code) and expectation (what the process must prove) lie there too. cpu_dtype is what it computes
    in on a CPU.
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


class Engine(ABC):
    """One way to compute answers."""

    name: ClassVar[EngineName]
    takes: ClassVar[frozenset[str]]
    """The fields of a completion request that it honours beyond those that every engine does."""
    embeds: ClassVar[bool]
    """Whether it answers /v1/embeddings."""
    stop_wait_s: ClassVar[float]
    """How long its process may take to end on SIGTERM."""
    stops_as_group: ClassVar[bool]
    """Whether SIGTERM goes to its whole process group, and not to its first process alone."""

    @abstractmethod
    def check(self, settings: Deploy) -> None:
        """Raise RecipeError for settings that the engine would not follow, or that it lacks."""

    @abstractmethod
    def process(self, launch: Launch) -> ProcessSpec:
        """Return the process, named `engine`, of lowest priority 1."""

    @abstractmethod
    def ready(self, url: str) -> None:
        """Return when the process takes requests. Raises ServingFailed while it does not."""

    @abstractmethod
    def prove(self, url: str, expectation: Expectation) -> EngineReport:
        """Return what the serving process holds, once it has shown the edit that was promised.

        Raises EditLost when it shows another one, ServingFailed when it does not answer.
        """
