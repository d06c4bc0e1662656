"""Personal data in a text: e-mail addresses, phone, card, identity and tax numbers.

Covers data with a recognisable form, for the check of training data (`find_personal_data`) and the
redaction of collected conversations (`personal_spans`). Street addresses have no such form and are
not found; names that people give are found by `tasks.core.collected.privacy.names`. The invariant:
reports shorten what they quote, so that they do not spread what they warn about.
"""

import re
from collections.abc import Iterator

from tasks.core.conversation.personal_data.numbers import number_spans
from tasks.core.conversation.personal_data.spans import PersonalDataKind, PersonalSpan

# RFC 5322's characters of a local part without quotes; `\w` because RFC 6531 allows any letter.
_EMAIL = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@((?:[\w-]{1,63}\.)+(?:xn--[a-z0-9-]{1,59}|[^\W\d_]{2,24}))\b",
    re.IGNORECASE,
)
# RFC 2606 keeps these names for examples.
_EXAMPLE = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|invalid|test)$", re.IGNORECASE)
_NAMES: dict[PersonalDataKind, str] = {
    "phone": "a phone number",
    "card": "a card number",
    "nik": "an identity number",
    "npwp": "a tax number",
}


def find_personal_data(text: str) -> str | None:
    """Describe the first personal data in the text, shortened; None if there is none."""
    found = next(_email_spans(text), None)
    if found is not None:
        local, _, host = text[found.start : found.end].rpartition("@")
        return f"an e-mail address ({local[0]}…@…{host[-4:]})"
    found = next(number_spans(text), None)
    if found is None:
        return None
    return f"{_NAMES[found.kind]} ({text[found.start : found.start + 4].strip()}…)"


def personal_spans(text: str) -> list[PersonalSpan]:
    """Return the spans of all personal data in the text, in order; overlapping ones are merged."""
    joined: list[PersonalSpan] = []
    for found in sorted([*_email_spans(text), *number_spans(text)]):
        if joined and found.start < joined[-1].end:
            last = joined.pop()
            found = PersonalSpan(last.start, max(last.end, found.end), last.kind)  # noqa: PLW2901
        joined.append(found)
    return joined


def _email_spans(text: str) -> Iterator[PersonalSpan]:
    if "@" not in text:
        return
    for found in _EMAIL.finditer(text):
        if not _EXAMPLE.search(found[1]):
            yield PersonalSpan(found.start(), found.end(), "email")
