"""Names in a correction that stand where the kept answer has a placeholder.

For corrections that arrive when the names of the conversation are no longer in memory: people edit
a part of an answer, so the words around a name are the same. Skipped where it would take long: in
texts of several thousand words, or of the same few words repeated.
"""

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from tasks.core.collected.privacy.redaction import NAME_PLACEHOLDER

_WORDS = re.compile(rf"{re.escape(NAME_PLACEHOLDER)}|\w+|[^\w\s]")
_MOST_STEPS = 20_000_000  # a few seconds in the worst case
_LONGEST_NAME_WORDS = 4


def names_behind_placeholders(kept: str, corrected: str) -> frozenset[str]:
    """Return the words of a correction in the places of name placeholders in the kept text."""
    if NAME_PLACEHOLDER not in kept:
        return frozenset()
    before, after = _WORDS.findall(kept), _WORDS.findall(corrected)
    if _steps(before, after) > _MOST_STEPS:
        return frozenset()
    found: set[str] = set()
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        is_long = new_end - new_start > _LONGEST_NAME_WORDS
        if kind == "replace" and NAME_PLACEHOLDER in before[start:end] and not is_long:
            found.update(word for word in after[new_start:new_end] if word.isalpha())
    return frozenset(word.casefold() for word in found)


def _steps(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many steps SequenceMatcher takes in the worst case.

    For each matching block it visits every word and every pair of equal words.
    """
    there = Counter(after)
    pairs = sum(count * there[word] for word, count in Counter(before).items())
    return (pairs + len(before)) * min(len(before), len(after))
