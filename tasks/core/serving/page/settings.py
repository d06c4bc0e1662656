"""What the page's process is started with."""

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.core.recipe.file import project_path

PROMPTS = Path("data/evaluation/prompts.json")


class PageSettings(BaseModel):
    """The file that the process is given. No key stands in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(description="The gateway, as an OpenAI client takes it: it ends in /v1.")
    model_name: str = Field(description="What is asked for.")
    host: str = Field("127.0.0.1", description="An address; beyond loopback anybody may ask.")
    port: int = Field(7860, ge=0, le=65535, description="0 takes any free one.")
    title: str = "Kawan Usaha"
    prompts: Path = Field(
        default_factory=lambda: project_path(PROMPTS).absolute(), description="Offered as examples."
    )
    kept_days: int | None = Field(
        None,
        ge=1,
        description="How long the gateway keeps conversations of people who agree; None where it "
        "keeps none, and the page asks for no consent.",
    )
    max_body_bytes: int = Field(1_000_000, ge=10_000, description="The longest request.")
    max_answers: int = Field(
        128, ge=1, description="Answers in progress, and as many more that wait."
    )

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        return str(ipaddress.ip_address(host))

    @property
    def is_public(self) -> bool:
        """Whether other machines reach it."""
        return not ipaddress.ip_address(self.host).is_loopback
