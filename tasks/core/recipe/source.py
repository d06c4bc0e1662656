"""Where models come from: the Hub or a directory, and who must have signed them."""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.core.recipe.part import RecipePart

Dtype = Literal["float32", "float16", "bfloat16"]

REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""The full name of a Hub repository."""


def _without_default(schema: dict[str, Any]) -> None:
    """Remove a default that another field excludes: Prefect's form would fill it in."""
    schema.pop("default", None)


class Source(RecipePart):
    """Where a model comes from: a Hub repository at a revision, or a directory."""

    default_repo: ClassVar[str | None] = None

    repo: str | None = Field(
        None,
        title="Hub repository",
        description="owner/name of a model repository. Leave empty if a directory is given.",
    )
    revision: str = Field(
        "main",
        title="Revision",
        description="Branch, tag or commit. It is resolved to a commit before anything is "
        "downloaded. A model that brings its own code must be named by its commit.",
    )
    directory: Path | None = Field(
        None,
        title="Directory",
        description="A model directory on the machine that runs the stage, instead of a Hub "
        "repository.",
    )
    signed_by: Path | None = Field(
        None,
        title="Signed by",
        description="A PEM file with a public key, on the machine that runs the stage. The model "
        "must carry a signature (`model.sig`) by this key over every file that is used. Leave "
        "empty to require no signature.",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_repo_unless_directory(cls, data: Any) -> Any:
        if isinstance(data, dict) and "repo" not in data:
            return {**data, "repo": None if data.get("directory") else cls.default_repo}
        return data

    @model_validator(mode="after")
    def _exactly_one_place(self) -> Self:
        if (self.repo is None) == (self.directory is None):
            raise ValueError("give either repo or directory, not both and not neither")
        if self.repo is not None and not REPO.fullmatch(self.repo):
            raise ValueError(f"{self.repo!r} is not a repository name; write owner/name")
        return self

    def __str__(self) -> str:
        return str(self.directory) if self.directory else f"{self.repo}@{self.revision}"

    @property
    def short_name(self) -> str:
        """The name of the model, without owner, revision or directory."""
        return self.directory.name if self.directory else str(self.repo).rsplit("/", 1)[-1]


class Base(Source):
    """The model that everything starts from."""

    default_repo = "huggyllama/llama-13b"

    repo: str | None = Field(
        default_repo,
        title="Hub repository",
        description="owner/name of the base model. Leave empty if a directory is given.",
        json_schema_extra=_without_default,
    )


class Delta(Source):
    """A weight delta that is added to the base model: target = base + delta."""

    default_repo = "lmsys/vicuna-13b-delta-v1.1"

    repo: str | None = Field(
        default_repo,
        title="Hub repository",
        description="owner/name of the delta. Leave empty if a directory is given.",
        json_schema_extra=_without_default,
    )
    dtype: Dtype = Field(
        "float16",
        title="Data type of the result",
        description="Data type of the sum. FastChat adds in float16.",
    )
