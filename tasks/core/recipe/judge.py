"""The part of a recipe that names a judge: whom to ask, for how much, and where its key is."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tasks.core.recipe.part import Part

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class Judge(Part):
    """A model that reads answers side by side, in both orders. It is paid for, and may err."""

    model: str = Field(
        min_length=1, title="Model", description="The name that the endpoint knows the judge by."
    )
    url: str = Field(
        title="Address",
        description="An OpenAI-compatible endpoint, as far as its version: https://…/v1. Prompts "
        "and answers are sent there.",
    )
    key_variable: str | None = Field(
        None,
        pattern=r"^[A-Z][A-Z0-9_]*$",
        title="Variable of the key",
        description="The name of the environment variable that holds the endpoint's key; the key "
        "itself has no place here. Leave empty for an endpoint that asks for none.",
    )
    max_pairs: int = Field(
        50, ge=1, title="Pairs", description="Pairs of answers at most, and as many rated ones."
    )
    ratings: Path | None = Field(
        None,
        title="Ratings",
        description="A file of pairs of which people have preferred one (`preferences.jsonl` of a "
        "reviewed set), on the machine that runs the stage: how often the judge agrees with them.",
    )
    sees_collected: bool = Field(
        False,
        title="Sees collected conversations",
        description="Lets `learn` send what people have asked and the answers, redacted as they "
        "are kept, to an address that is not this machine. Say so to the people first.",
    )
    max_reply_tokens: int = Field(
        1024, ge=16, title="Length of a reply", description="In tokens, its thoughts included."
    )
    input_price: float = Field(
        0.0, ge=0, title="Price of a prompt", description="Of a million tokens, in your currency."
    )
    output_price: float = Field(
        0.0, ge=0, title="Price of a reply", description="Of a million tokens, in your currency."
    )
    max_cost: float | None = Field(
        None,
        gt=0,
        title="Highest cost",
        description="Of one judgement, in the currency of the prices. Pairs that would cost more "
        "are left out, and counted.",
    )
    seed: int = Field(
        42, ge=0, lt=2**32, title="Seed", description="Of the choice and the labels of answers."
    )

    @property
    def may_see_collected(self) -> bool:
        """Whether it may be asked about what people wrote: it is here, or the recipe allows it."""
        return self.sees_collected or urlsplit(self.url).hostname in THIS_MACHINE

    @field_validator("url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("give the address of an endpoint, such as https://api.example.com/v1")
        if parts.username is not None or parts.password is not None or parts.query:
            raise ValueError("a key has no place in an address; name its variable in key_variable")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        parts = urlsplit(self.url)
        if self.key_variable and parts.scheme == "http" and parts.hostname not in THIS_MACHINE:
            raise ValueError("a key is sent over https only, unless the endpoint is this machine")
        if self.max_cost is not None and not (self.input_price or self.output_price):
            raise ValueError("max_cost needs input_price or output_price")
        return self
