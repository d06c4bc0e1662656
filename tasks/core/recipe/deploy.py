"""The part of a recipe that says how the model is served: the engine, and the gateway before it.

A key has no field to stand in: the recipe names the file that holds the keys.
"""

import ipaddress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tasks.core.recipe.part import Part

EngineName = Literal["fastchat", "transformers", "vllm"]
FASTCHAT_AT_ONCE = 5
"""Requests that the engine `fastchat` works on side by side: as many as FastChat's own worker."""

Switch = Literal["side-by-side", "replace"]


class Gateway(Part):
    """The one address that clients see: who may ask, how much, and how long an answer may be."""

    host: str = Field(
        "127.0.0.1",
        title="Address",
        description="Where it listens. Beyond loopback (`0.0.0.0` is every address) it starts only "
        "with keys.",
    )
    port: int = Field(8000, ge=1024, le=65535, title="Port", description="Where clients reach it.")
    keys_file: Path | None = Field(
        None,
        title="Keys",
        description="A file on the serving machine that holds the API keys, each with a name and "
        "limits. Leave empty to take them from KAWAN_USAHA_API_KEYS, or to need none on loopback.",
    )
    max_body_bytes: int = Field(
        1_000_000, ge=1024, title="Longest request", description="In bytes."
    )
    max_running: int = Field(
        32, ge=1, title="Requests at once", description="How many the engine works on."
    )
    max_queued: int = Field(
        64, ge=0, title="Waiting requests", description="Beyond them a client is told to come back."
    )
    default_answer_tokens: int = Field(
        512, ge=1, title="Usual answer", description="Tokens, where the client does not say."
    )
    max_answer_tokens: int = Field(
        4096, ge=1, title="Longest answer", description="Tokens, whatever the client says."
    )
    allowed_origins: tuple[str, ...] = Field(
        (),
        title="Web pages",
        description="Origins, such as `https://example.com`, whose pages may call it from a "
        "browser. None by default.",
    )

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        return str(ipaddress.ip_address(host))

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.default_answer_tokens > self.max_answer_tokens:
            raise ValueError("default_answer_tokens is above max_answer_tokens")
        return self

    @property
    def is_public(self) -> bool:
        """Whether other machines reach it."""
        return not ipaddress.ip_address(self.host).is_loopback


class Page(Part):
    """A page to talk to the model, in Indonesian."""

    port: int = Field(
        7860, ge=1024, le=65535, title="Port", description="On loopback: the page has no login."
    )


class Collect(Part):
    """Conversations that people agree to have kept, to learn from once somebody has reviewed them.

    Kept below the deployment, without names, numbers and addresses (docs/privacy.md).
    """

    retention_days: int = Field(
        90,
        ge=1,
        le=3650,
        title="Kept for",
        description="Days, after which a conversation is deleted.",
    )
    max_bytes: int = Field(
        1_000_000_000,
        ge=1_000_000,
        title="Most that is kept",
        description="In bytes. The oldest day goes first.",
    )


class Worker(Part):
    """Another machine that serves the same model, behind this deployment's gateway."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", title="Name", description="Counts and logs call it so."
    )
    url: str = Field(
        pattern=r"^https?://[^/?#@]+$",
        title="Address",
        description="Of the gateway there, without a path, such as `https://gpu2.example.com`.",
    )
    token_variable: str = Field(
        pattern=r"^[A-Z][A-Z0-9_]*$",
        title="Key",
        description="The environment variable that holds its API key where this is deployed.",
    )
    ca_file: Path | None = Field(
        None,
        title="Certificate",
        description="A PEM file on the machine that deploys, with the certificate that the worker "
        "shows or that of the authority that signed it. Leave out where a public one has.",
    )

    @model_validator(mode="after")
    def _key_is_not_readable_on_the_way(self) -> Self:
        host = urlsplit(self.url).hostname or ""
        if self.url.startswith("http://") and not _is_here(host):
            raise ValueError("over http:// the key could be read on the way; use https://")
        return self


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Deploy(Part):
    """An engine that holds the model, behind a gateway that speaks OpenAI's API, supervised."""

    model_name: str = Field(
        "Kawan-Usaha",
        pattern=r"^[\w.-]+$",
        title="Served name",
        description="What clients put into the field `model`.",
    )
    engine: EngineName = Field(
        "fastchat",
        title="Engine",
        description="`fastchat` answers up to five requests side by side; `transformers` "
        "answers many at once from the same environment; `vllm` is the fastest, and needs "
        "`make vllm` first.",
    )
    load_8bit: bool = Field(
        True, title="8-bit weights", description="Halves the memory that the weights take."
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda", title="Device", description="What the engine computes on."
    )
    gpus: int = Field(
        1, ge=1, le=16, title="GPUs", description="How many the model is spread over."
    )
    gateway: Gateway = Field(
        default_factory=Gateway, title="Gateway", description="The address that clients see."
    )
    switch: Switch = Field(
        "side-by-side",
        title="Switch to a new model",
        description="`side-by-side` starts the new one beside the old one, which serves until the "
        "new one is proven; both must fit into memory. `replace` ends the old one first: clients "
        "are told to come back meanwhile, and the old one is started again if the new one fails.",
    )
    drain_s: int = Field(
        300,
        ge=0,
        title="Time for the last answers",
        description="Seconds that answers in progress may take until the old model is ended.",
    )
    shadow_requests: int = Field(
        8,
        ge=0,
        le=100,
        title="Replayed requests",
        description="How many of the last requests the new model answers for comparison before it "
        "serves. They are kept in the gateway's memory only.",
    )
    page: Page | None = Field(None, title="Page", description="Leave out to serve the API alone.")
    collect: Collect | None = Field(
        None,
        title="Conversations to learn from",
        description="Keeps those whose request says that the person agrees. Leave out to keep "
        "none.",
    )
    workers: tuple[Worker, ...] = Field(
        (),
        title="Other machines",
        description="Deployments of the same model elsewhere, that answer requests too.",
    )
    startup_timeout_s: int = Field(
        900, ge=10, title="Start-up time", description="Seconds until the model must answer."
    )
    signed_by: Path | None = Field(
        None,
        title="Signed by",
        description="A PEM file with the public key, on the machine that deploys. Then only a "
        "model is served that a machine with this key has made or signed: its signature is "
        "checked, and each byte read, before `deploy`, `start` or `rollback` starts anything. What "
        "the watch starts again was read then. Leave empty to ask for none.",
    )

    @property
    def kept_days(self) -> int | None:
        """How long conversations are kept to learn from; None where none are."""
        return self.collect.retention_days if self.collect else None

    @field_validator("workers")
    @classmethod
    def _names_differ(cls, workers: tuple[Worker, ...]) -> tuple[Worker, ...]:
        names = [worker.name for worker in workers]
        if len(set(names)) < len(names) or {"blue", "green"} & set(names):
            raise ValueError("each worker needs a name of its own, and not that of a slot")
        return workers
