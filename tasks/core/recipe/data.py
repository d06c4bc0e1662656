"""Where the conversations of a fine-tune come from: the part of a recipe that names its sources.

Only what can be judged from the words alone is checked here: whether a file is there, and what is
in it, is asked by whoever reads it.
"""

import re
from os.path import normpath
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.recipe.part import Part
from tasks.core.recipe.source import REPO

DataFormat = Literal["auto", "fastchat", "openai", "sharegpt", "preferences"]
"""How the records of a source are written; `auto` is found out by a look at the first ones."""

_DEPLOYMENT = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PLACES = ("file", "directory", "repo", "collected")


class DataSource(Part):
    """One source of conversations: a file, a directory, a data set of the Hub, or what was
    collected while a deployment served."""

    file: Path | None = Field(
        None,
        title="File",
        description="A JSON or JSON-lines file on the machine that runs the stage. A path alone, "
        "in place of these fields, means the same.",
    )
    directory: Path | None = Field(
        None,
        title="Directory",
        description="A directory on the machine that runs the stage: every `*.json` and `*.jsonl` "
        "in it is read, in the order of their names.",
    )
    repo: str | None = Field(
        None, title="Hub data set", description="owner/name of a data set of the Hub."
    )
    revision: str = Field(
        "main",
        title="Revision",
        description="Branch, tag or commit of the data set. It is resolved to a commit before "
        "anything is loaded.",
    )
    name: str | None = Field(
        None,
        title="File of the data set",
        description="Which file of the data set is meant, if it has several.",
    )
    collected: str | None = Field(
        None,
        title="Collected by",
        description="The name of a deployment: the conversations that it has collected and that "
        "somebody has reviewed and accepted.",
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=100,
        title="Weight",
        description="How often an epoch learns each conversation: 2.0 twice, 0.5 only half of "
        "them, which are chosen by a hash of their words. Validation is never weighted.",
    )
    format: DataFormat = Field(
        "auto",
        title="Format",
        description="`fastchat`, `openai` (`messages` with `role` and `content`) or `sharegpt` "
        "with its variants; `auto` finds out by a look at the first records, and the run says "
        "what it took.",
    )

    @model_validator(mode="after")
    def _exactly_one_place(self) -> Self:
        given = [name for name in _PLACES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of {', '.join(_PLACES)}; found {found}")
        if self.repo is None and self.name is not None:
            raise ValueError("`name` is that of a file in a data set, and no repo is given")
        if self.repo is None and self.revision != DataSource.model_fields["revision"].default:
            raise ValueError("`revision` is that of a data set, and no repo is given")
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
        """What two sources have in common that are one, however it is written."""
        path = self.file or self.directory
        return str(self) if path is None else normpath(path)

    @property
    def short_name(self) -> str:
        """The source in a word or two, without the way to it."""
        path = self.file or self.directory
        return path.name if path is not None else str(self)


def listed(value: Any) -> Any:
    """Return what a recipe says of its data as a list of sources: one alone is a list, too."""
    if isinstance(value, str | Path | dict | DataSource):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    return [{"file": each} if isinstance(each, str | Path) else each for each in value]


def short_names(sources: tuple[DataSource, ...]) -> str:
    """Return the sources in a few words."""
    first, *others = (each.short_name for each in sources)
    return f"{first} and {len(others)} more" if others else first
