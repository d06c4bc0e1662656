"""Where the finished model goes."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from tasks.core.recipe.part import Part
from tasks.core.recipe.source import REPO


class Publish(Part):
    """Where the finished model goes: a Hub repository, or a directory or bucket."""

    repo: str | None = Field(
        None,
        title="Hub repository",
        description="owner/name; created when missing. Leave empty when a target is given.",
    )
    target: str | None = Field(
        None,
        title="Directory or bucket",
        description="A directory on the machine that runs the stage, or an fsspec URL such as "
        "s3://bucket/models, instead of a Hub repository. Keys for it come from the environment, "
        "never from here.",
    )
    private: bool = Field(
        True, title="Private", description="Visible only to its owner and the owner's team."
    )
    language: str = Field("id", title="Language", description="ISO 639-1 code for the model card.")
    license: str = Field(
        "other", title="Licence", description="The Hub's licence identifier for the model card."
    )
    accept_license: str | None = Field(
        None,
        title="Acceptance of the licence",
        description="A public repository of weights with a non-commercial licence, or of unknown "
        "origin, needs a sentence here; the refusal says which one.",
    )
    signed_by: Path | None = Field(
        None,
        title="Signed by",
        description="A PEM file with a public key, on the machine that runs the stage. What is "
        "published is then signed (`model.sig`) with its private key, which "
        "KAWAN_USAHA_SIGNING_KEY names and which has no place here. Leave empty to sign nothing.",
    )

    @model_validator(mode="after")
    def _exactly_one_place(self) -> Self:
        if (self.repo is None) == (self.target is None):
            raise ValueError("give either repo or target, not both and not neither")
        if self.repo is not None and not REPO.fullmatch(self.repo):
            raise ValueError(f"{self.repo!r} is not a repository name; write owner/name")
        if self.target is not None and urlsplit(self.target).password is not None:
            raise ValueError("a password has no place in a recipe; give it by the environment")
        return self
