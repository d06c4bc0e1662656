"""Where the gateway sends requests: the file that a deployment writes and the gateway follows.

    <home>/serving/<name>/routes.json

The invariant: the file names only what has been proven. Whoever changes it asks the gateway to read
it again (by its control socket); a gateway that is started anew reads it first.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.recipe.deploy import EngineName

BUILD_HEADER = "X-Kawan-Usaha-Build"
"""From one gateway to another: the build that must answer, and nobody behind that other one."""


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Upstream(_Value):
    """A server of the engine protocol (see engines/protocol.md): an engine here, or a worker.

    A worker is the gateway of another machine, whose engine has proven itself there.
    """

    name: str = Field(description="Counts and logs call it so: `blue`, or a host.")
    url: str = Field(description="Without a path: http://127.0.0.1:40001.")
    token_variable: str | None = Field(
        None, description="Of a worker: names its key where it is deployed. None: an engine."
    )

    @property
    def is_worker(self) -> bool:
        """Whether it is a gateway on another machine."""
        return self.token_variable is not None


class Route(_Value):
    """What answers requests now, and how a conversation is written for it."""

    model_name: str
    build: str
    slot: str
    engine: EngineName
    template: str
    model: Path = Field(description="Its directory: tokenizer and configuration are read there.")
    context_tokens: Annotated[int, Field(ge=1)]
    takes: frozenset[str] = Field(
        frozenset(), description="`Engine.takes`: the fields that it honours beyond every engine's."
    )
    embeds: bool = Field(False, description="`Engine.embeds`: whether it answers /v1/embeddings.")
    most_stops: int | None = Field(None, description="`Engine.most_stops`; None: no limit.")
    upstreams: tuple[Upstream, ...] = Field(min_length=1)


class Routes(_Value):
    """The whole file. Without a route every request gets 503 with Retry-After."""

    route: Route | None = None
    why_not: str | None = Field(None, description="What a client is told meanwhile.")
    retry_after_s: int = 30
