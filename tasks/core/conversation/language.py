"""Which language a conversation is in, by its letters, without a network.

py3langid (BSD) bundles a model of 139 languages in 4 MB. It knew the language of all 190 records
of the starter set, but mistook one in ten of their single turns, mostly for Malay. So whole records
are judged, and only from a length on at which the model can be trusted.
"""

from functools import cache
from typing import Protocol

from tasks.core.conversation.records import Conversation
from tasks.core.errors import RecipeError

MIN_LETTERS = 80
_FIRST_LOOK_CHARACTERS = 500
_SECOND_LOOK_CHARACTERS = 4000


class _Identifier(Protocol):
    @property
    def labels(self) -> list[str]: ...

    def classify(self, text: str) -> tuple[str, float]: ...


class LanguageCheck:
    """Tells conversations of other languages than the expected one."""

    def __init__(self, expected: str) -> None:
        """Raise RecipeError when the model does not know a language of this ISO 639-1 code."""
        self._identifier = _identifier()
        self._expected = expected
        if expected not in self._identifier.labels:
            raise RecipeError(
                "No language of this code is known.",
                where="finetune.language",
                expected="an ISO 639-1 code, such as id, en or jv",
                found=expected,
                next_step="Correct it, or leave it empty to accept every language.",
            )

    def other_language(self, conversation: Conversation) -> str | None:
        """Return the code of the language that the conversation is in if it is not the expected.

        None too where there is too little text to say. A short sample decides where it shows the
        expected language; any doubt is settled by a longer one.
        """
        for characters in (_FIRST_LOOK_CHARACTERS, _SECOND_LOOK_CHARACTERS):
            sample = _sample(conversation, characters)
            if sum(map(str.isalpha, sample)) < MIN_LETTERS:
                return None
            found = self._identifier.classify(sample)[0]
            if found == self._expected:
                return None
        return found


def _sample(conversation: Conversation, characters: int) -> str:
    """Return the beginnings of all turns, with an equal share for each.

    Not of the system message: one in English is usual in conversations of any language.
    """
    share = max(1, characters // len(conversation.turns))
    return "\n".join(turn.text[:share] for turn in conversation.turns)


@cache
def _identifier() -> _Identifier:
    # Imported here: reading the model takes a quarter of a second, and most commands never ask.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    identifier: _Identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    return identifier
