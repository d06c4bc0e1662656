"""The routes of the gateway, in a file that the deployment writes and the gateway follows.

    <home>/serving/<name>/routes.json

The invariant: the file names only what has been proven. Whoever changes it asks the gateway to read
it again (through the control socket); a gateway reads it when it starts.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.recipe.deploy import EngineName

BUILD_HEADER = "X-Kawan-Usaha-Build"
"""Sent by a gateway to another: the build that must answer, from that machine itself."""


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Upstream(_Value):
    """A server that speaks the engine protocol (engines/protocol.md): a local engine or a worker.

    A worker is the gateway of another machine, whose engine has proven itself there.
    """

    name: str = Field(description="Its name in counters and logs: `blue`, or a host.")
    url: str = Field(description="Without a path: http://127.0.0.1:40001.")
    token_variable: str | None = Field(
        None, description="The variable with a worker's key. None: a local engine."
    )

    @property
    def is_worker(self) -> bool:
        """Whether it is a gateway on another machine."""
        return self.token_variable is not None


class Route(_Value):
    """What answers requests now, and in which format it gets a conversation."""

    model_name: str
    build: str
    slot: str
    engine: EngineName
    template: str
    model: Path = Field(description="Its directory: tokenizer and configuration are read there.")
    context_tokens: Annotated[int, Field(ge=1)]
    takes: frozenset[str] = Field(
        frozenset(), description="`Engine.takes`: the optional fields that it supports."
    )
    embeds: bool = Field(False, description="`Engine.embeds`: whether it answers /v1/embeddings.")
    most_stops: int | None = Field(None, description="`Engine.most_stops`; None: no limit.")
    upstreams: tuple[Upstream, ...] = Field(min_length=1)


class Routes(_Value):
    """The content of the file. Without a route every request gets 503 with Retry-After."""

    route: Route | None = None
    why_not: str | None = Field(None, description="What a client is told meanwhile.")
    retry_after_s: int = 30
