"""Which language a conversation is in, by its letters, without a network.

py3langid (BSD) bundles a model of 139 languages in 4 MB. It knew the language of all 190 records
of the starter set, but mistook one in ten of their single turns, mostly for Malay. So whole records
are judged, and only from a length on at which the model can be trusted.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.conversation.records import Conversation
from tasks.core.errors import RecipeError

MIN_LETTERS = 80
_FIRST_LOOK_CHARACTERS = 500
_SECOND_LOOK_CHARACTERS = 4000


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
        return self.other_languages([conversation])[0]

    def other_languages(self, conversations: Sequence[Conversation]) -> list[str | None]:
        """Return what `other_language` says of each."""
        found: list[str | None] = [None] * len(conversations)
        asked = list(range(len(conversations)))
        for characters in (_FIRST_LOOK_CHARACTERS, _SECOND_LOOK_CHARACTERS):
            samples = {i: _sample(conversations[i], characters) for i in asked}
            judged = {i: sample for i, sample in samples.items() if _has_letters(sample)}
            told = dict(zip(judged, self._identifier.languages(list(judged.values())), strict=True))
            for i in asked:
                found[i] = told.get(i, self._expected)
            asked = [i for i in asked if found[i] != self._expected]
        return [None if one == self._expected else one for one in found]


class _Identifier:
    """py3langid's model; its walk through the letters is taken for many texts at once.

    One text at a time, the walk is the costliest part of checking a file. Scores and decision are
    the library's own code, so each answer is that of its `classify`, which a test compares.
    """

    def __init__(self) -> None:
        # Imported here: reading the model takes half a second, and most commands never ask.
        from py3langid.langid import (  # type: ignore[import-untyped]
            MODEL_FILE,
            LanguageIdentifier,
        )

        model: Any = LanguageIdentifier.from_model_file(MODEL_FILE)
        # As each product would convert them; the model's own, in float16, are let go.
        self._weights = model.nb_ptc.astype(np.float32)  # (features, classes)
        model.nb_ptc = model._full_model = None
        self._model = model
        self._next = np.asarray(self._model.tk_nextmove)  # (rows * 256,)
        self._row = np.asarray(self._model._rowbase)  # (states,)
        self._output = np.asarray(self._model.tk_output)  # (states,)
        self.labels = list[str](self._model.labels)

    def languages(self, texts: Sequence[str]) -> list[str]:
        """Return the code of the language that each text is most likely in."""
        encoded = [np.frombuffer(self._model._encode(text), np.uint8) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: -len(encoded[i]))
        features = self._features([encoded[i] for i in order])
        found = {i: self._language(own) for i, own in zip(order, features, strict=True)}
        return [found[i] for i in range(len(texts))]

    def _features(self, encoded: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """Return the features that each text, the longest first, comes past, in their order."""
        lengths = np.array([len(one) for one in encoded], dtype=np.intp)
        letters = np.zeros((lengths.max(initial=0), len(encoded)), dtype=np.intp)
        for column, one in enumerate(encoded):
            letters[: len(one), column] = one
        passed = np.full(letters.shape, -1, dtype=self._output.dtype)
        state = np.zeros(len(encoded), dtype=np.intp)
        still = np.searchsorted(-lengths, -np.arange(len(letters)), "left")  # texts that go on
        for row, active in enumerate(still.tolist()):
            state = self._next[self._row[state[:active]] + letters[row, :active]]
            passed[row, :active] = self._output[state]
        return [column[column >= 0] for column in np.ascontiguousarray(passed.T)]

    def _language(self, features: NDArray[Any]) -> str:
        model = self._model
        if not len(features):  # as in a script that it was never shown
            return str(model.nb_classes[0])
        scores = model._sparse_score(Counter(features.tolist()), self._weights)
        return str(model.nb_classes[int(scores.argmax())])


def _has_letters(text: str) -> bool:
    """Return whether there are enough of them to judge by; mostly the beginning says so."""
    parts = (text[: 2 * MIN_LETTERS], text)
    return any(sum(map(str.isalpha, part)) >= MIN_LETTERS for part in parts)


def _sample(conversation: Conversation, characters: int) -> str:
    """Return the beginnings of all turns, with an equal share for each.

    Not of the system message: one in English is usual in conversations of any language.
    """
    share = max(1, characters // len(conversation.turns))
    return "\n".join(turn.text[:share] for turn in conversation.turns)


@cache
def _identifier() -> _Identifier:
    return _Identifier()
