"""The settings of a gateway's process."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.recipe.deploy import Collect, Gateway


class GatewaySettings(BaseModel):
    """The settings file of the process. It contains no key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gateway: Gateway
    routes: Path = Field(description="The file with the routes (routes.py).")
    lock: Path | None = Field(
        None, description="Held while it serves; another gateway on the same socket is on standby."
    )
    workers: Path | None = Field(
        None, description="The keys of the workers (worker_access.py), read with the routes."
    )
    collected: Path | None = Field(
        None, description="The directory of collected answers; None if there can be none."
    )
    collect: Collect | None = Field(None, description="How to collect; None: nothing new.")
    control_socket: Path = Field(description="A unix socket of mode 0600, created by the gateway.")
    shadow_requests: int = Field(8, ge=0, description="How many of the last answers to remember.")
    listen: Literal["bind", "inherited"] = Field(
        "bind",
        description="`inherited`: file descriptor 0 is a listening socket. supervisord's "
        "fcgi-program passes it, and connections wait in it while the gateway restarts.",
    )
    first_token_s: float = Field(
        600.0,
        gt=0,
        description="How long an engine may take to the first token. Long prompts take minutes on "
        "a CPU, and FastChat's engine answers at most five requests at once.",
    )
    between_tokens_s: float = Field(
        300.0,
        gt=0,
        description="How long it may take from one token to the next. An engine that batches "
        "requests may process the long prompt of another one in between.",
    )
    client_s: float = Field(
        60.0,
        gt=0,
        description="How long a client may take to send its request, or to receive a piece of the "
        "answer, before it counts as gone, since it holds a place in the engine.",
    )
    shutdown_s: int = Field(
        60, ge=1, description="How long answers in progress may take when the gateway stops."
    )
