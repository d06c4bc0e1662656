"""The settings of the page's process."""

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.core.recipe.file import project_path

PROMPTS = Path("data/evaluation/prompts.json")


class PageSettings(BaseModel):
    """The settings file of the process. It contains no key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(
        description="The gateway's base_url for an OpenAI client: it ends in /v1."
    )
    model_name: str = Field(description="The name of the model.")
    host: str = Field("127.0.0.1", description="An address; beyond loopback anybody can use it.")
    port: int = Field(7860, ge=0, le=65535, description="0 takes any free one.")
    title: str = "Kawan Usaha"
    prompts: Path = Field(
        default_factory=lambda: project_path(PROMPTS).absolute(), description="Offered as examples."
    )
    kept_days: int | None = Field(
        None,
        ge=1,
        description="How long the gateway stores conversations of people who agree; None if it "
        "stores none, and the page does not ask for consent.",
    )
    max_body_bytes: int = Field(1_000_000, ge=10_000, description="The longest request.")
    max_answers: int = Field(
        128, ge=1, description="Answers in progress, and as many more waiting."
    )

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        return str(ipaddress.ip_address(host))

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        return not ipaddress.ip_address(self.host).is_loopback
