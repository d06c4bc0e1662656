"""Names that a correction has where the answer that was kept has only a placeholder.

For a correction that comes once the names of its conversation are no longer in memory: people
correct an answer by changing a part of it, so the words around a name are still the same.
"""

import re
from difflib import SequenceMatcher

from tasks.core.collected.redaction import NAME

_WORDS = re.compile(rf"{re.escape(NAME)}|\w+|[^\w\s]")
_MOST_WORDS = 4000  # SequenceMatcher's time grows with their square
_LONGEST_NAME_WORDS = 4


def names_behind_placeholders(kept: str, corrected: str) -> frozenset[str]:
    """Return the words of a correction that stand where the kept text has a name's placeholder."""
    if NAME not in kept:
        return frozenset()
    before, after = _WORDS.findall(kept)[:_MOST_WORDS], _WORDS.findall(corrected)[:_MOST_WORDS]
    found: set[str] = set()
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        is_long = new_end - new_start > _LONGEST_NAME_WORDS
        if kind == "replace" and NAME in before[start:end] and not is_long:
            found.update(word for word in after[new_start:new_end] if word.isalpha())
    return frozenset(word.casefold() for word in found)
