"""The language of a conversation, identified offline.

py3langid (BSD) bundles a model of 139 languages in 4 MB. It identified all 190 records of the
starter set, but mistook one in ten of their single turns, mostly for Malay. So whole records are
identified, and only those long enough for the model to be reliable.
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
_SAMPLE_CHARACTERS = 500
_LONG_SAMPLE_CHARACTERS = 4000


class LanguageCheck:
    """Finds conversations in another language than the expected one."""

    def __init__(self, expected: str) -> None:
        """Raise RecipeError if the model does not know this ISO 639-1 code."""
        self._identifier = _identifier()
        self._expected = expected
        if expected not in self._identifier.labels:
            raise RecipeError(
                "No language with this code is known.",
                where="finetune.language",
                expected="an ISO 639-1 code, such as id, en or jv",
                found=expected,
                next_step="Correct it, or leave it empty to accept every language.",
            )

    def other_language(self, conversation: Conversation) -> str | None:
        """Return the code of the conversation's language if it is not the expected one.

        None also if there is too little text to tell. A short sample decides if it shows the
        expected language; otherwise a longer one does.
        """
        return self.other_languages([conversation])[0]

    def other_languages(self, conversations: Sequence[Conversation]) -> list[str | None]:
        """Return `other_language` of each conversation."""
        found: list[str | None] = [None] * len(conversations)
        asked = list(range(len(conversations)))
        for characters in (_SAMPLE_CHARACTERS, _LONG_SAMPLE_CHARACTERS):
            samples = {i: _sample(conversations[i], characters) for i in asked}
            judged = {i: sample for i, sample in samples.items() if _has_letters(sample)}
            told = dict(zip(judged, self._identifier.languages(list(judged.values())), strict=True))
            for i in asked:
                found[i] = told.get(i, self._expected)
            asked = [i for i in asked if found[i] != self._expected]
        return [None if one == self._expected else one for one in found]


class _Identifier:
    """py3langid's model, with its automaton run over many texts at once.

    One text at a time, the automaton is the most expensive part of checking a file. Scoring is the
    library's own code, so each result equals that of its `classify`, which a test compares.
    """

    def __init__(self) -> None:
        # Imported here: loading the model takes half a second, and most commands do not need it.
        from py3langid.langid import (  # type: ignore[import-untyped]
            MODEL_FILE,
            LanguageIdentifier,
        )

        model: Any = LanguageIdentifier.from_model_file(MODEL_FILE)
        # Converted once instead of in each product; the model's own float16 weights are freed.
        self._weights = model.nb_ptc.astype(np.float32)  # (features, classes)
        model.nb_ptc = model._full_model = None
        self._model = model
        self._next = np.asarray(self._model.tk_nextmove)  # (rows * 256,)
        self._row = np.asarray(self._model._rowbase)  # (states,)
        self._output = np.asarray(self._model.tk_output)  # (states,)
        self.labels = list[str](self._model.labels)

    def languages(self, texts: Sequence[str]) -> list[str]:
        """Return the code of the likeliest language of each text."""
        encoded = [np.frombuffer(self._model._encode(text), np.uint8) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: -len(encoded[i]))
        features = self._features([encoded[i] for i in order])
        found = {i: self._language(own) for i, own in zip(order, features, strict=True)}
        return [found[i] for i in range(len(texts))]

    def _features(self, encoded: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """Return the features that each text emits, in order; texts come longest first."""
        lengths = np.array([len(one) for one in encoded], dtype=np.intp)
        letters = np.zeros((lengths.max(initial=0), len(encoded)), dtype=np.intp)
        for column, one in enumerate(encoded):
            letters[: len(one), column] = one
        passed = np.full(letters.shape, -1, dtype=self._output.dtype)
        state = np.zeros(len(encoded), dtype=np.intp)
        still = np.searchsorted(-lengths, -np.arange(len(letters)), "left")  # texts not yet ended
        for row, active in enumerate(still.tolist()):
            state = self._next[self._row[state[:active]] + letters[row, :active]]
            passed[row, :active] = self._output[state]
        return [column[column >= 0] for column in np.ascontiguousarray(passed.T)]

    def _language(self, features: NDArray[Any]) -> str:
        model = self._model
        if not len(features):  # as in a script that the model was not trained on
            return str(model.nb_classes[0])
        scores = model._sparse_score(Counter(features.tolist()), self._weights)
        return str(model.nb_classes[int(scores.argmax())])


def _has_letters(text: str) -> bool:
    """Return whether there are enough letters; the beginning of the text usually suffices."""
    parts = (text[: 2 * MIN_LETTERS], text)
    return any(sum(map(str.isalpha, part)) >= MIN_LETTERS for part in parts)


def _sample(conversation: Conversation, characters: int) -> str:
    """Return the beginnings of all turns, with an equal share for each.

    The system message is left out: it is often English in conversations of any language.
    """
    share = max(1, characters // len(conversation.turns))
    return "\n".join(turn.text[:share] for turn in conversation.turns)


@cache
def _identifier() -> _Identifier:
    return _Identifier()
