"""Where the finished model is published."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from tasks.core.recipe.part import RecipePart
from tasks.core.recipe.source import REPO


class Publish(RecipePart):
    """Where the finished model is published: a Hub repository, a directory or a bucket."""

    repo: str | None = Field(
        None,
        title="Hub repository",
        description="owner/name; created if missing. Leave empty if a target is given.",
    )
    target: str | None = Field(
        None,
        title="Directory or bucket",
        description="A directory on the machine that runs the stage, or an fsspec URL such as "
        "s3://bucket/models, instead of a Hub repository. Its keys come from the environment, "
        "never from the recipe.",
    )
    private: bool = Field(
        True,
        title="Private",
        description="Create the repository so that only its owner and their team can see it.",
    )
    language: str = Field("id", title="Language", description="ISO 639-1 code on the model card.")
    license: str = Field(
        "other", title="Licence", description="Licence identifier of the Hub, for the model card."
    )
    accept_license: str | None = Field(
        None,
        title="Acceptance of the licence",
        description="Publishing weights under a non-commercial licence, or of unknown origin, in "
        "a public repository needs a sentence here; the error says which one.",
    )
    signed_by: Path | None = Field(
        None,
        title="Signed by",
        description="A PEM file with a public key, on the machine that runs the stage. The model "
        "is signed (`model.sig`) with the private key that KAWAN_USAHA_SIGNING_KEY names, which "
        "never stands in a recipe. Leave empty to sign nothing.",
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
