"""Names that a correction has where the answer that was kept has only a placeholder.

For a correction that comes once the names of its conversation are no longer in memory: people
correct an answer by changing a part of it, so the words around a name are still the same. Not
found where that would take long: in texts of several thousand words, or of the same few words over
and over.
"""

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from tasks.core.collected.redaction import NAME

_WORDS = re.compile(rf"{re.escape(NAME)}|\w+|[^\w\s]")
_MOST_STEPS = 20_000_000  # some seconds at the worst
_LONGEST_NAME_WORDS = 4


def names_behind_placeholders(kept: str, corrected: str) -> frozenset[str]:
    """Return the words of a correction that stand where the kept text has a name's placeholder."""
    if NAME not in kept:
        return frozenset()
    before, after = _WORDS.findall(kept), _WORDS.findall(corrected)
    if _steps(before, after) > _MOST_STEPS:
        return frozenset()
    found: set[str] = set()
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        is_long = new_end - new_start > _LONGEST_NAME_WORDS
        if kind == "replace" and NAME in before[start:end] and not is_long:
            found.update(word for word in after[new_start:new_end] if word.isalpha())
    return frozenset(word.casefold() for word in found)


def _steps(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many steps SequenceMatcher takes at the worst.

    It looks at each pair of equal words once a block that it finds, and at each word.
    """
    there = Counter(after)
    pairs = sum(count * there[word] for word, count in Counter(before).items())
    return (pairs + len(before)) * min(len(before), len(after))
