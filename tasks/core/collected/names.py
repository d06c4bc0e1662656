"""Names that a person gave in a conversation: "nama saya Budi", "kenalkan, saya Siti", "I'm Ani".

Found by how people introduce themselves, in Indonesian and English, in their own turns only; no
list of names is needed. Behind "saya" alone a name in small letters is found only at the beginning
of a message. Not found: a name that comes without an introduction, and one inside a
longer word (`@warungbudi`). The invariant: in doubt a word counts as a name; a sentence that lost
a word does less harm than a name that is kept.
"""

import re
from collections.abc import Iterable, Iterator

from tasks.core.collected.no_names import NO_NAMES, TITLES

_I = r"(?:saya|aku|gue|gua|gw|ane|sy)"
_TITLE = rf"(?:(?:{'|'.join(sorted(TITLES))})\b\.?\s+)*"
# After these a name comes in whatever case; after the others only what is written like one.
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
    """Return the words of the names that these turns of one person introduce, in small letters."""
    names: set[str] = set()
    for text in texts:
        for words in _introductions(text):
            parts = _LETTERS.findall(" ".join(words).casefold())
            names.update([part for part in parts if _stands_alone(part)] or parts)
    return frozenset(names)


def without_names(text: str, names: frozenset[str], instead: str) -> str:
    """Return the text with `instead` in place of all these names, whatever their case."""
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
        if word.casefold() in NO_NAMES:
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
    # "nama saya budi jualan bakso keliling": where a name in small letters ends, nothing says.
    if words and words[0][0].islower() and (is_open or len(words) > _MOST_LOWER_WORDS):
        return words[:1]
    return words


def _is_like_a_name(word: str, introduction: str) -> bool:
    """Return whether a capital begins a name; "saya PNS" is none, and "SAYA BUDI" is."""
    return len(word) == 1 or not word.isupper() or introduction.strip().isupper()
