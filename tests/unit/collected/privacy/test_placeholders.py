"""Names in a correction, told from the words around them: in bounded time, whatever it says."""

from difflib import SequenceMatcher

import pytest

from tasks.core.collected.privacy import placeholders
from tasks.core.collected.privacy.placeholders import names_behind_placeholders


@pytest.mark.parametrize("words", ["a ", "a b ", "a b a c "])
def test_words_said_over_and_over_are_not_compared(monkeypatch, words):
    def compared(*_: object, **__: object) -> SequenceMatcher[str]:
        raise AssertionError("this takes minutes")

    monkeypatch.setattr(placeholders, "SequenceMatcher", compared)
    assert names_behind_placeholders("[nama] " + words * 2000, words[::-1] * 2000) == frozenset()


def test_a_name_is_found_in_an_answer_of_a_thousand_words():
    said = [f"kata{number}" if number % 10 else "yang" for number in range(1000)]
    kept, corrected = [*said, "[nama]", "."], [*said[3:], "Siti", "."]
    assert names_behind_placeholders(" ".join(kept), " ".join(corrected)) == {"siti"}
