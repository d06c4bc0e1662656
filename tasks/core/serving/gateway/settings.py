"""What a gateway's process is started with, and from which socket it takes connections."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.recipe.deploy import Collect, Gateway


class GatewaySettings(BaseModel):
    """The file that the process is given. No key stands in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gateway: Gateway
    routes: Path = Field(description="The file that says where requests go (routes.py).")
    lock: Path | None = Field(
        None, description="Held while it serves: another one on the same socket stands by for it."
    )
    workers: Path | None = Field(
        None, description="The keys of the workers (worker_access.py), read with the routes."
    )
    collected: Path | None = Field(
        None, description="The directory of what is kept with consent; None where none can be."
    )
    collect: Collect | None = Field(None, description="What of it; None keeps nothing new.")
    control_socket: Path = Field(description="A unix socket, of mode 0600, made by the gateway.")
    shadow_requests: int = Field(8, ge=0, description="How many of the last answers to remember.")
    listen: Literal["bind", "inherited"] = Field(
        "bind",
        description="`inherited`: file descriptor 0 is a listening socket. supervisord's "
        "fcgi-program gives it, and connections wait in it while the gateway is started again.",
    )
    first_token_s: float = Field(
        600.0,
        gt=0,
        description="How long an engine may take to the first token. Long prompts take minutes on "
        "a CPU, and FastChat's engine answers no more than five requests at once.",
    )
    between_tokens_s: float = Field(
        300.0,
        gt=0,
        description="How long it may take from one token to the next: an engine that computes "
        "several requests in one step reads another one's long prompt in between.",
    )
    client_s: float = Field(
        60.0,
        gt=0,
        description="How long a client may take to send its request, or to take a piece of the "
        "answer, until it counts as gone: it holds a place of the engine.",
    )
    shutdown_s: int = Field(
        60, ge=1, description="How long answers in progress may take once the gateway is to end."
    )
