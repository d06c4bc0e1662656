"""The arguments of an engine's process; imports nothing slow."""

from pydantic import BaseModel, ConfigDict

from tasks.core.recipe import Dtype


class EngineArguments(BaseModel):
    """The argument `--settings` of an engine's process, as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    model_name: str
    template: str
    port: int
    device: str
    gpus: int
    dtype: Dtype | None
    load_8bit: bool
    running: int
    waiting: int
    takes: tuple[str, ...]
