"""What an engine's process is told when it starts; knows nothing that takes long to import."""

from pydantic import BaseModel, ConfigDict

from tasks.core.recipe import Dtype


class EngineArguments(BaseModel):
    """What an engine's process is told: the argument `--settings`, as JSON."""

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
