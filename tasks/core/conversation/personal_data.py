"""Personal data that a model could repeat: e-mail addresses, phone, card and identity numbers.

Covers what has a form of its own. Names and street addresses have none and are not found. The
invariant: what is reported is shortened, so that a report does not spread what it warns of.
"""

import re
from datetime import date

_EMAIL = re.compile(r"[\w.+-]{1,64}@((?:[\w-]{1,63}\.)+[a-z]{2,24})\b", re.IGNORECASE)
# Indonesian mobile numbers as they are written there, and any number with a country code. A point
# may divide the digits only where a sum of money cannot stand: sums do not begin with 0 or +.
_PHONE = re.compile(
    r"(?<![\d.,])(?:(?:(?:\+|00)62[ .-]?|0)8\d(?:[ .-]?\d){6,10}|628\d{7,11})(?![\d.,]?\d)"
)
_FOREIGN_PHONE = re.compile(r"(?<!\w)\+[1-9](?:[ .-]?\(?\d\)?){8,14}(?!\d)")
# Nine digits, no further apart than in any of the others: one look for all three.
_DIGITS = re.compile(r"\d(?:[ .()-]{0,3}\d){8}")
_CARD = re.compile(r"(?<![\d.,])\d(?:[ -]?\d){12,18}(?![.,]?\d)")

# RFC 2606 keeps these names for examples.
_EXAMPLE = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|invalid|test)$", re.IGNORECASE)
_IDENTITY_DIGITS = 16
_FIRST_PROVINCE, _LAST_PROVINCE = 11, 99
_WOMEN = 40  # is added to the day of birth in a woman's number
_LEAP_YEAR = 2000


def find_personal_data(text: str) -> str | None:
    """Return the first kind of personal data in the text with a shortened specimen, or None."""
    if "@" in text:
        for found in _EMAIL.finditer(text):
            if not _EXAMPLE.search(found[1]):
                return f"an e-mail address ({found[0][0]}…@…{found[1][-4:]})"
    if _DIGITS.search(text) is None:
        return None
    for found in _CARD.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if is_card_number(digits):
            return f"a card number ({digits[:4]}…)"
        if is_identity_number(digits):
            return f"an identity number ({digits[:4]}…)"
    phone = _PHONE.search(text) or ("+" in text and _FOREIGN_PHONE.search(text))
    return f"a phone number ({phone[0][:4].strip()}…)" if phone else None


def is_card_number(digits: str) -> bool:
    """Return whether the digits pass the check of ISO/IEC 7812 (Luhn's), and are not all alike."""
    doubled = (int(d) * 2 for d in digits[-2::-2])
    total = sum(map(int, digits[-1::-2])) + sum(d - 9 if d > 9 else d for d in doubled)
    return total % 10 == 0 and len(set(digits)) > 1


def is_identity_number(digits: str) -> bool:
    """Return whether the digits are built as an Indonesian NIK: region, birth date, serial."""
    if len(digits) != _IDENTITY_DIGITS or digits.endswith("0000"):
        return False
    day, month = int(digits[6:8]), int(digits[8:10])
    try:
        date(_LEAP_YEAR, month, day - _WOMEN if day > _WOMEN else day)
    except ValueError:
        return False
    return _FIRST_PROVINCE <= int(digits[:2]) <= _LAST_PROVINCE
