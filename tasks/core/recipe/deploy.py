"""How the model is served: the engine, and the gateway in front of it.

There is no field for a key: the recipe names the file that holds the keys.
"""

import ipaddress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tasks.core.recipe.part import RecipePart

EngineName = Literal["fastchat", "transformers", "vllm"]
FASTCHAT_AT_ONCE = 5
"""How many requests the engine `fastchat` runs concurrently, as FastChat's own worker."""

Switch = Literal["side-by-side", "replace"]


class Gateway(RecipePart):
    """The address that clients use, with its access control and limits."""

    host: str = Field(
        "127.0.0.1",
        title="Address",
        description="IP address to listen on. Beyond loopback (`0.0.0.0` is every interface) the "
        "gateway starts only with API keys.",
    )
    port: int = Field(8000, ge=1024, le=65535, title="Port", description="TCP port to listen on.")
    keys_file: Path | None = Field(
        None,
        title="API keys",
        description="A file on the serving machine with the API keys, each with a name and "
        "limits. Leave empty to take them from KAWAN_USAHA_API_KEYS, or to require none on "
        "loopback.",
    )
    max_body_bytes: int = Field(
        1_000_000,
        ge=1024,
        title="Largest request",
        description="Maximum size of a request body, in bytes.",
    )
    max_running: int = Field(
        32,
        ge=1,
        title="Concurrent requests",
        description="Maximum number of requests that the engine runs at the same time.",
    )
    max_queued: int = Field(
        64,
        ge=0,
        title="Queued requests",
        description="Maximum number of waiting requests. Further clients are told to retry later.",
    )
    default_answer_tokens: int = Field(
        512,
        ge=1,
        title="Default answer length",
        description="Maximum number of tokens if the client does not set one.",
    )
    max_answer_tokens: int = Field(
        4096,
        ge=1,
        title="Longest answer",
        description="Upper limit on the tokens that a client may ask for.",
    )
    allowed_origins: tuple[str, ...] = Field(
        (),
        title="Allowed origins",
        description="Web origins, such as `https://example.com`, whose pages may call the gateway "
        "from a browser (CORS). None by default.",
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
        """Whether other machines can reach it."""
        return not ipaddress.ip_address(self.host).is_loopback


class ChatPage(RecipePart):
    """A web page to chat with the model, in Indonesian."""

    port: int = Field(
        7860,
        ge=1024,
        le=65535,
        title="Port",
        description="TCP port, on loopback only: the page has no login.",
    )


class Collect(RecipePart):
    """Answers kept, with the consent of the people who asked, to train on after a review.

    They are stored with the deployment, without names, numbers and addresses (docs/privacy.md).
    """

    retention_days: int = Field(
        90,
        ge=1,
        le=3650,
        title="Retention",
        description="Days until a conversation is deleted.",
    )
    max_bytes: int = Field(
        1_000_000_000,
        ge=1_000_000,
        title="Largest size",
        description="Maximum size of everything kept, in bytes. The oldest day is deleted first.",
    )


class Worker(RecipePart):
    """Another machine that serves the same model, behind this deployment's gateway."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        title="Name",
        description="Name of the worker in metrics and logs.",
    )
    url: str = Field(
        pattern=r"^https?://[^/?#@]+$",
        title="Address",
        description="URL of the worker's gateway, without a path, such as "
        "`https://gpu2.example.com`.",
    )
    token_variable: str = Field(
        pattern=r"^[A-Z][A-Z0-9_]*$",
        title="Variable of the key",
        description="Name of the environment variable, on the machine that deploys, that holds "
        "the worker's API key.",
    )
    ca_file: Path | None = Field(
        None,
        title="Certificate",
        description="A PEM file on the machine that deploys, with the worker's certificate or "
        "that of the authority that signed it. Leave out for a publicly trusted certificate.",
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


class Deploy(RecipePart):
    """A supervised engine that holds the model, behind a gateway with an OpenAI-compatible API."""

    model_name: str = Field(
        "Kawan-Usaha",
        pattern=r"^[\w.-]+$",
        title="Served name",
        description="Model name that clients send in the field `model`.",
    )
    engine: EngineName = Field(
        "fastchat",
        title="Engine",
        description="`fastchat` runs up to five requests concurrently; `transformers` batches "
        "many in the same environment; `vllm` is the fastest, and needs `make vllm` first.",
    )
    load_8bit: bool = Field(
        True,
        title="8-bit weights",
        description="Load the weights in 8 bits, which halves their memory.",
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda", title="Device", description="Device that the engine runs on."
    )
    gpus: int = Field(
        1, ge=1, le=16, title="GPUs", description="Number of GPUs that the model is split across."
    )
    gateway: Gateway = Field(
        default_factory=Gateway,
        title="Gateway",
        description="The address that clients use, with its limits.",
    )
    switch: Switch = Field(
        "side-by-side",
        title="Switch to a new model",
        description="`side-by-side` starts the new model while the old one serves, and switches "
        "once the new one is verified; both must fit into memory. `replace` stops the old model "
        "first: clients are told to retry, and the old model is restarted if the new one fails.",
    )
    drain_s: int = Field(
        300,
        ge=0,
        title="Drain time",
        description="Seconds that running answers have to finish before the old model is stopped.",
    )
    shadow_requests: int = Field(
        8,
        ge=0,
        le=100,
        title="Replayed requests",
        description="Number of recent requests that the new model answers for comparison before "
        "it serves. They are kept in the gateway's memory only.",
    )
    page: ChatPage | None = Field(
        None, title="Chat page", description="Leave out to serve the API only."
    )
    collect: Collect | None = Field(
        None,
        title="Collect answers",
        description="Keep the answers to requests that declare the person's consent, to train on "
        "after a review. Leave out to keep none.",
    )
    workers: tuple[Worker, ...] = Field(
        (),
        title="Workers",
        description="Deployments of the same model on other machines that share the load.",
    )
    startup_timeout_s: int = Field(
        900,
        ge=10,
        title="Start-up timeout",
        description="Seconds until the model must answer its first request.",
    )
    signed_by: Path | None = Field(
        None,
        title="Signed by",
        description="A PEM file with a public key, on the machine that deploys. Only models "
        "signed with its private key are served: `deploy`, `start` and `rollback` read every byte "
        "and check the signature before they start anything. What the watch restarts was checked "
        "then. Leave empty to require no signature.",
    )

    @property
    def kept_days(self) -> int | None:
        """Days that answers are kept to train on; None if none are kept."""
        return self.collect.retention_days if self.collect else None

    @field_validator("workers")
    @classmethod
    def _names_differ(cls, workers: tuple[Worker, ...]) -> tuple[Worker, ...]:
        names = [worker.name for worker in workers]
        if len(set(names)) < len(names) or {"blue", "green"} & set(names):
            raise ValueError("each worker needs a name of its own, and not that of a slot")
        return workers
