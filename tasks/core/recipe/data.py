"""The data sources of a fine-tune.

Only the fields themselves are checked here; whether a file exists and what it holds is checked when
it is read.
"""

import re
from os.path import normpath
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.recipe.part import RecipePart
from tasks.core.recipe.source import REPO

DataFormat = Literal["auto", "fastchat", "openai", "sharegpt", "preferences"]
"""The format of a source's records; `auto` is detected from the first of them."""

_DEPLOYMENT = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PLACES = ("file", "directory", "repo", "collected")


class DataSource(RecipePart):
    """One source of conversations: a file, a directory, a Hub data set, or collected answers."""

    file: Path | None = Field(
        None,
        title="File",
        description="A JSON or JSON-lines file on the machine that runs the stage. A path on its "
        "own, in place of these fields, means the same.",
    )
    directory: Path | None = Field(
        None,
        title="Directory",
        description="A directory on the machine that runs the stage. Every `*.json` and `*.jsonl` "
        "file in it is read, sorted by name.",
    )
    repo: str | None = Field(
        None, title="Hub data set", description="owner/name of a data set on the Hub."
    )
    revision: str = Field(
        "main",
        title="Revision",
        description="Branch, tag or commit of the data set. It is resolved to a commit before "
        "anything is downloaded.",
    )
    name: str | None = Field(
        None,
        title="File in the data set",
        description="The file to use if the data set has several.",
    )
    collected: str | None = Field(
        None,
        title="Collected answers",
        description="Name of a deployment whose collected answers are used, as far as a reviewer "
        "has accepted them.",
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=100,
        title="Weight",
        description="How often an epoch trains on each conversation of this source: 2.0 is twice; "
        "0.5 is half of them, chosen by a hash of their text. Validation is never weighted.",
    )
    format: DataFormat = Field(
        "auto",
        title="Format",
        description="Format of the records: `fastchat`, `openai` (`messages` with `role` and "
        "`content`), `sharegpt` and its variants, or `preferences` (pairs for DPO). `auto` "
        "detects it from the first records, and the run reports it.",
    )

    @model_validator(mode="after")
    def _exactly_one_place(self) -> Self:
        given = [name for name in _PLACES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of {', '.join(_PLACES)}; found {found}")
        if self.repo is None and self.name is not None:
            raise ValueError("`name` names a file in a data set, but no repo is given")
        if self.repo is None and self.revision != DataSource.model_fields["revision"].default:
            raise ValueError("`revision` belongs to a data set, but no repo is given")
        if self.name is not None and not self.name.endswith((".json", ".jsonl")):
            raise ValueError(f"{self.name!r} does not end with .json or .jsonl")
        if self.repo is not None and not REPO.fullmatch(self.repo):
            raise ValueError(f"{self.repo!r} is not a repository name; write owner/name")
        if self.collected is not None and not _DEPLOYMENT.fullmatch(self.collected):
            raise ValueError(f"{self.collected!r} is not the name of a deployment")
        return self

    def __str__(self) -> str:
        if self.repo is not None:
            return f"{self.repo}@{self.revision}" + (f":{self.name}" if self.name else "")
        if self.collected is not None:
            return f"collected by {self.collected}"
        return str(self.file or self.directory)

    @property
    def place(self) -> str:
        """The normalised location, equal for two spellings of the same source."""
        path = self.file or self.directory
        return str(self) if path is None else normpath(path)

    @property
    def short_name(self) -> str:
        """The name of the source, without its directory."""
        path = self.file or self.directory
        return path.name if path is not None else str(self)


def listed(value: Any) -> Any:
    """Return the sources as a list: a single path or source is accepted for a list of one."""
    if isinstance(value, str | Path | dict | DataSource):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    return [{"file": each} if isinstance(each, str | Path) else each for each in value]


def short_names(sources: tuple[DataSource, ...]) -> str:
    """Return the first source's name, and how many more there are."""
    first, *others = (each.short_name for each in sources)
    return f"{first} and {len(others)} more" if others else first
