"""Names that people give in a conversation: "nama saya Budi", "kenalkan, saya Siti", "I'm Ani".

Found by the ways of introducing oneself in Indonesian and English, in the person's own turns only,
without a list of names. After "saya" alone a lower-case name is found only at the beginning of a
message. Not found: names without an introduction, and names inside a longer word (`@warungbudi`).
The invariant: a doubtful word counts as a name; losing a word does less harm than keeping a name.
"""

import re
from collections.abc import Iterable, Iterator

from tasks.core.collected.privacy.not_names import FORMS_OF_ADDRESS, NOT_NAMES

_I = r"(?:saya|aku|gue|gua|gw|ane|sy)"
_TITLE = rf"(?:(?:{'|'.join(sorted(FORMS_OF_ADDRESS))})\b\.?\s+)*"
# After these a name may have any case; after the others it must be capitalised.
_STRONG = re.compile(
    rf"\b(?:nama(?:\s+(?:lengkap|asli|panggilan|depan))?\s+(?:{_I}|ku)|namaku|nama(?=\s*[:=])"
    rf"|(?:perkenalkan|kenalkan|kenalin|salam\s+kenal)\b[\s,.!:]*(?:nama\s+)?(?:{_I}\b)?"
    rf"|(?:{_I}\s+(?:biasa\s+|sering\s+)?)?(?:bernama|dipanggil)"
    rf"|(?:panggil|sapa)\s+(?:(?:saja|aja)\s+)?(?:{_I}\b)?(?:\s+(?:saja|aja|dengan))?"
    r"|my\s+(?:full\s+|first\s+)?name(?:\s+is|['’]s|(?=\s*[:=]))|call\s+me|i\s+go\s+by)"
    rf"\b\s*(?:(?:adalah|ialah|itu|yaitu)\b|[:=,])?\s*{_TITLE}",
    re.IGNORECASE,
)
_WEAK = re.compile(
    rf"\b(?:{_I}|ini\s+dengan|dengan(?=\s+(?:pak|bu|bapak|ibu)\b)"
    rf"|i['’]?m|i\s+am|this\s+is)\b\s*,?\s+{_TITLE}",
    re.IGNORECASE,
)
# "aku dewi dari Bandung": only where a message begins so, for "saya" comes before any verb.
_FIRST = re.compile(
    r"\A\s*(?:(?:halo|hallo|hai|hi|hello|hey|permisi|(?:selamat\s+)?(?:pagi|siang|sore|malam)"
    r"|ass?alam\w*(?:\s+\w*kum)?|min|admin|kak|kakak|gan|sis|pak|bu|mas|mbak)\b[\s,.!]*)*"
    rf"\b{_I}\b\s*,?\s+{_TITLE}(?=[^\W\d_])",
    re.IGNORECASE,
)
_VERB = re.compile(r"(?:ber|me[mn])\w{4,}|ke\w{3,}an|di\w{5,}|ter\w{5,}", re.IGNORECASE)
_SIGNED = re.compile(
    r"\b(?:salam|hormat\s+saya|terima\s*kasih|makasih|regards|thanks|thank\s+you)\b[^\n]{0,20}\n\s*"
    rf"{_TITLE}(?=[^\n]{{1,60}}\s*\Z)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-](?=[^\W\d_]))*")
_LETTERS = re.compile(r"[^\W\d_]+")
_GAP = re.compile(r"\.?[ \t]+")
_MOST_WORDS = 4
_LAST_CHARACTERS = 200  # in which a letter is signed
_MOST_LOWER_WORDS = 3
_SHORTEST_ALONE = 3
_CONNECTORS = ("bin", "binti", "van", "von", "de", "al")


def names_given(texts: Iterable[str]) -> frozenset[str]:
    """Return the words of the names introduced in these turns of one person, in lower case."""
    names: set[str] = set()
    for text in texts:
        for words in _introductions(text):
            parts = _LETTERS.findall(" ".join(words).casefold())
            names.update([part for part in parts if _stands_alone(part)] or parts)
    return frozenset(names)


def without_names(text: str, names: frozenset[str], instead: str) -> str:
    """Return the text with these names, in any case, replaced by `instead`."""
    if not names:
        return text
    replaced = _LETTERS.sub(lambda word: instead if word[0].casefold() in names else word[0], text)
    between = rf"[\s'’.-]{{1,3}}(?:(?:{'|'.join(_CONNECTORS)}|[^\W\d_])[\s.-]{{1,3}})?"
    name = re.escape(instead)
    return re.sub(rf"{name}(?:{between}{name})+", instead, replaced, flags=re.IGNORECASE)


def _stands_alone(part: str) -> bool:
    return len(part) >= _SHORTEST_ALONE and part not in _CONNECTORS


def _introductions(text: str) -> Iterator[list[str]]:
    for found in _STRONG.finditer(text):
        words = _words(text, found.end(), capitals=False)
        if words:
            yield words
    for found in _FIRST.finditer(text):
        words = _words(text, found.end(), capitals=False)
        if words and _VERB.fullmatch(words[0]) is None and _is_like_a_name(words[0], found[0]):
            yield words
    for pattern, part in ((_WEAK, text), (_SIGNED, text.rstrip()[-_LAST_CHARACTERS:])):
        for found in pattern.finditer(part):
            words = _words(part, found.end(), capitals=True)
            if words and _is_like_a_name(words[0], found[0]):
                yield words


def _words(text: str, start: int, *, capitals: bool) -> list[str]:
    """Return the words of a name that begins at start."""
    words: list[str] = []
    at = start
    while len(words) < _MOST_WORDS and (found := _WORD.match(text, at)):
        word = found[0]
        if word.casefold() in NOT_NAMES:
            return words
        in_capitals = capitals or (words and words[0][0].isupper())
        if in_capitals and not word[0].isupper() and word.casefold() not in _CONNECTORS:
            return words
        words.append(word)
        gap = _GAP.match(text, found.end())
        if gap is None:
            return words
        at = gap.end()
    is_open = bool(_WORD.match(text, at))
    # "nama saya budi jualan bakso keliling": the end of a lower-case name is unknown.
    if words and words[0][0].islower() and (is_open or len(words) > _MOST_LOWER_WORDS):
        return words[:1]
    return words


def _is_like_a_name(word: str, introduction: str) -> bool:
    """Return whether a capitalised word is a name: not in "saya PNS", but in "SAYA BUDI"."""
    return len(word) == 1 or not word.isupper() or introduction.strip().isupper()
