"""The rules that the records of a caller must fulfil, besides the rules of their format."""

from dataclasses import dataclass

from tasks.core.conversation.checking.remedies import Caller
from tasks.core.conversation.preferences import Method
from tasks.core.recipe import Evaluate, Finetune

ANY_LANGUAGE = "any"
"""The value of the option --language for no expected language."""


@dataclass(frozen=True)
class Rules:
    """What records must fulfil besides their format. `language` None accepts every language.

    `method` says whether they must be conversations or preference pairs; None accepts both.
    `caller` decides whether remedies name fields of the recipe or options of the command line.
    """

    language: str | None = "id"
    merge_neighbours: bool = False
    max_dropped_share: float = 0.02
    caller: Caller = "finetune"
    method: Method | None = "sft"

    @classmethod
    def of(cls, settings: Finetune) -> "Rules":
        """Return the rules of a recipe for its training data."""
        return cls(
            settings.language,
            settings.same_speaker == "merge",
            settings.max_dropped_share,
            method=settings.method,
        )

    @classmethod
    def of_held_out(cls, settings: Evaluate) -> "Rules":
        """Return the rules of a recipe for its held-out conversations, in any language."""
        return cls(None, max_dropped_share=settings.max_dropped_share, caller="evaluate")

    @property
    def options(self) -> tuple[str, ...]:
        """The options that make `data check` apply these rules."""
        options: list[str] = []
        if self.language != Rules.language:
            options += ["--language", self.language or ANY_LANGUAGE]
        if self.merge_neighbours:
            options.append("--merge-neighbours")
        return tuple(options)
