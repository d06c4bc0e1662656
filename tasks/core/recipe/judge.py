"""The judge of an evaluation: its endpoint, the variable of its key, and a limit on its cost."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tasks.core.recipe.part import RecipePart

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class Judge(RecipePart):
    """A model that compares answers in pairs, in both orders. It costs money and can be wrong."""

    model: str = Field(
        min_length=1, title="Model", description="Name of the judge at its endpoint."
    )
    url: str = Field(
        title="Address",
        description="URL of an OpenAI-compatible endpoint up to its version: https://…/v1. "
        "Prompts and answers are sent there.",
    )
    key_variable: str | None = Field(
        None,
        pattern=r"^[A-Z][A-Z0-9_]*$",
        title="Variable of the key",
        description="Name of the environment variable that holds the endpoint's key; the key "
        "itself never stands in a recipe. Leave empty for an endpoint without a key.",
    )
    max_pairs: int = Field(
        50,
        ge=1,
        title="Number of pairs",
        description="Maximum number of pairs to judge, and of rated pairs to compare with.",
    )
    ratings: Path | None = Field(
        None,
        title="Ratings",
        description="A file of preference pairs rated by people (`preferences.jsonl` of a "
        "reviewed set), on the machine that runs the stage, to measure how often the judge agrees.",
    )
    sees_collected: bool = Field(
        False,
        title="Sees collected conversations",
        description="Allow `learn` to send collected questions and answers, redacted as they are "
        "kept, to an endpoint on another machine. Tell the people concerned first.",
    )
    max_reply_tokens: int = Field(
        1024,
        ge=16,
        title="Reply length",
        description="Maximum number of tokens of a reply, including its reasoning.",
    )
    input_price: float = Field(
        0.0,
        ge=0,
        title="Input price",
        description="Price of a million input tokens, in any currency.",
    )
    output_price: float = Field(
        0.0,
        ge=0,
        title="Output price",
        description="Price of a million output tokens, in the same currency.",
    )
    max_cost: float | None = Field(
        None,
        gt=0,
        title="Highest cost",
        description="Upper limit on the cost of one evaluation, in the currency of the prices. "
        "Pairs beyond it are skipped and counted.",
    )
    seed: int = Field(
        42,
        ge=0,
        lt=2**32,
        title="Seed",
        description="Random seed for the choice of pairs and the labels of the answers.",
    )

    @property
    def may_see_collected(self) -> bool:
        """Whether it may see collected texts: it runs on this machine, or the recipe allows it."""
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
