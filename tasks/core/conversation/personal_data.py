"""Personal data in a text: e-mail addresses, phone, card, identity and tax numbers.

Covers what has a form of its own, for the check of training data (`find_personal_data`) and for
what is kept of people's conversations (`personal_spans`). Street addresses have no form and are not
found; names that a person gave are for `tasks.core.collected.names`. The invariant: what is
reported is shortened, so that a report does not spread what it warns of.
"""

import re
from collections.abc import Iterator

from tasks.core.conversation.personal_numbers import number_spans
from tasks.core.conversation.spans import Kind, Span

# RFC 5322's characters of a local part without quotes; `\w` because RFC 6531 allows any letter.
_EMAIL = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@((?:[\w-]{1,63}\.)+(?:xn--[a-z0-9-]{1,59}|[^\W\d_]{2,24}))\b",
    re.IGNORECASE,
)
# RFC 2606 keeps these names for examples.
_EXAMPLE = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|invalid|test)$", re.IGNORECASE)
_SAID: dict[Kind, str] = {
    "phone": "a phone number",
    "card": "a card number",
    "nik": "an identity number",
    "npwp": "a tax number",
}


def find_personal_data(text: str) -> str | None:
    """Return the first kind of personal data in the text with a shortened specimen, or None."""
    found = next(_email_spans(text), None)
    if found is not None:
        local, _, host = text[found.start : found.end].rpartition("@")
        return f"an e-mail address ({local[0]}…@…{host[-4:]})"
    found = next(number_spans(text), None)
    if found is None:
        return None
    return f"{_SAID[found.kind]} ({text[found.start : found.start + 4].strip()}…)"


def personal_spans(text: str) -> list[Span]:
    """Return all personal data in the text, in order; what overlaps is one span."""
    joined: list[Span] = []
    for found in sorted([*_email_spans(text), *number_spans(text)]):
        if joined and found.start < joined[-1].end:
            last = joined.pop()
            found = Span(last.start, max(last.end, found.end), last.kind)  # noqa: PLW2901
        joined.append(found)
    return joined


def _email_spans(text: str) -> Iterator[Span]:
    if "@" not in text:
        return
    for found in _EMAIL.finditer(text):
        if not _EXAMPLE.search(found[1]):
            yield Span(found.start(), found.end(), "email")
