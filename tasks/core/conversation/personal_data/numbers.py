"""Numbers that identify a person: telephone and payment card numbers, NIK and NPWP.

Whether a number is valid is decided by `phonenumbers` and `python-stdnum`; this module only knows
how people group the digits. The invariant: the time is linear in the length of the text.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache

from tasks.core.conversation.personal_data.digit_runs import FEWEST_DIGITS, Group, groups_of_runs
from tasks.core.conversation.personal_data.spans import PersonalDataKind, PersonalSpan

_HOME, _HOME_CODE = "ID", "62"
_KINDS_OF_PHONES = ("fixed_line", "mobile", "toll_free", "shared_cost", "premium_rate", "uan")
_MOST_PHONE_DIGITS = 17  # 15 by ITU-T E.164, and the 00 before a country
_MOST_DIGITS = 22  # of a NITKU, the number of a branch: an NPWP and six digits more
_FEWEST_IDENTITY_DIGITS = 13
_CARD_GROUPS = ("4444", "444", "4443", "465", "464", "4446")
"""The sizes of the groups of digits on cards that have groups."""
# ISO/IEC 7812 gives other first digits to airlines and the like; 1946 is Indonesia's own (GPN).
# Fewer digits than 16 have only Visa's old cards (13), Diners Club's and American Express's.
_CARD = re.compile(r"4\d{12}|3\d{13,14}|(?:[3-6]\d{3}|2[2-7]\d\d|1946)\d{12,15}")
# Provinces and regencies of the Ministry of Home Affairs, those of 2022 among them, which
# python-stdnum 2.2 does not know yet.
_REGION = re.compile(r"(?:1[1-9]|21|3[1-6]|5[1-3]|6[1-5]|7[1-6]|8[12]|9[1-7])(?:[0-4]\d|7[1-9])")
_NPWP_GROUPS = ("233133", "3331333")  # 01.312.166.0-091.000, and with a 0 before it since 2024
_MOST_GROUPS = max(map(len, (*_CARD_GROUPS, *_NPWP_GROUPS)))
_PLUS = re.compile(r"(?<!\w)\+\s?\(?$")
_SAID_BEFORE = re.compile(
    r"(?:\b(?:wa|whats ?app|no\.? ?hp|hp|tele?po?n|telp|tlp|phone|ponsel|handphone|hubungi|kontak)"
    r"|\bnomor(?:ku| saya| aku))\W{0,3}(?:(?:saya|aku|kami|nya|di|ke|is)\W{1,3})?$",
    re.IGNORECASE,
)


def number_spans(text: str) -> Iterator[PersonalSpan]:
    """Yield the span of every such number, in order.

    Spans may overlap: digits that can be read in two ways give both.
    """
    for groups in groups_of_runs(text):
        for place, first in enumerate(groups):
            phone_groups = _phone(text, groups, place)
            kind, identity_groups = _identity(groups[place : place + _MOST_DIGITS])
            if phone_groups and phone_groups >= identity_groups:
                start = first.start - _sign_before(text, first.start)
                yield PersonalSpan(start, groups[place + phone_groups - 1].end, "phone")
            elif kind is not None:
                yield PersonalSpan(first.start, groups[place + identity_groups - 1].end, kind)


def _identity(groups: Sequence[Group]) -> tuple[PersonalDataKind | None, int]:
    """Return the kind of number that these groups begin with, and its number of groups."""
    count = 0
    for after, group in enumerate(groups, start=1):
        count += len(group.digits)
        if count > _MOST_DIGITS:
            break
        if count >= _FEWEST_IDENTITY_DIGITS:
            kind = _identity_of(groups[:after], count)
            if kind is not None:
                return kind, after
    return None, 0


def _identity_of(groups: Sequence[Group], count: int) -> PersonalDataKind | None:
    if len(groups) > _MOST_GROUPS and count != 16:  # 16 digits may stand in any groups
        return None
    digits = "".join(group.digits for group in groups)
    shape = "".join(str(len(group.digits)) for group in groups)
    if shape in _NPWP_GROUPS:  # nothing else is grouped so; a typo still identifies somebody
        return "npwp"
    if count == 16 and is_identity_number(digits):
        return "nik"
    if (len(groups) == 1 or count == 16) and is_tax_number(digits):
        return "npwp"
    if (len(groups) == 1 or shape in _CARD_GROUPS) and is_card_number(digits):
        return "card"
    return None


def is_card_number(digits: str) -> bool:
    """Return whether the digits are a possible payment card number (Luhn's check)."""
    from stdnum import luhn

    return (
        _CARD.fullmatch(digits) is not None and len(set(digits)) > 1 and bool(luhn.is_valid(digits))
    )


def is_identity_number(digits: str) -> bool:
    """Return whether the digits form an Indonesian NIK: region, birth date, serial number."""
    from stdnum.exceptions import ValidationError
    from stdnum.id import nik

    if len(digits) != 16 or digits.endswith("0000") or _REGION.match(digits) is None:
        return False
    try:
        nik.get_birth_date(digits)
    except ValidationError:
        return False
    return True


def is_tax_number(digits: str) -> bool:
    """Return whether the digits form an NPWP: 15 or 16 digits, or 22 for a branch.

    Since 2024 the NPWP of a citizen is the NIK.
    """
    from stdnum.id import npwp

    if len(digits) == 22:
        return is_identity_number(digits[:16]) or is_tax_number(digits[:16])
    if len(digits) == 16 and digits[0] != "0":
        return False
    return len(set(digits)) > 1 and bool(npwp.is_valid(digits))


def _phone(text: str, groups: Sequence[Group], place: int) -> int:
    """Return how many groups the longest telephone number from `place` on has; 0 for none."""
    prefix = _prefix(text, groups[place], alone=place + 1 == len(groups))
    if prefix is None:
        return 0
    digits, ends = "", []
    for after, group in enumerate(groups[place : place + _MOST_PHONE_DIGITS], start=1):
        digits += group.digits
        if len(digits) > _MOST_PHONE_DIGITS:
            break
        if len(digits) >= FEWEST_DIGITS:
            ends.append((after, digits))
    return next((after for after, all_digits in reversed(ends) if _is_phone(prefix, all_digits)), 0)


def _prefix(text: str, first: Group, *, alone: bool) -> str | None:
    """Return the prefix of a telephone number that begins with this group, None if none can."""
    before = text[max(0, first.start - 40) : first.start]
    if _PLUS.search(before):
        return "+"
    if first.digits.startswith(("62", "0062")):
        return "+"
    if first.digits[0] == "0" and first.digits[1:2] not in ("0", ""):
        return ""
    if first.digits == "0" and not alone and text[first.end] in " -":
        return ""
    return "+62" if first.digits[0] == "8" and _SAID_BEFORE.search(before) else None


def _is_phone(prefix: str, digits: str) -> bool:
    """Return whether the digits, with their prefix, are a telephone number.

    Foreign numbers are looked for only after a `+`, of which a run of digits has at most one:
    parsing takes 0.1 ms, and every group of a run may begin an Indonesian number.
    """
    import phonenumbers

    abroad = digits.removeprefix("00") if prefix == "+" else digits
    if prefix != "+":
        return _is_home_number(abroad)
    if abroad.startswith(_HOME_CODE):
        return _is_home_number(abroad.removeprefix(_HOME_CODE))
    try:
        number = phonenumbers.parse(f"+{abroad}")
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_valid_number(number))


def _is_home_number(digits: str) -> bool:
    """Return whether `phonenumbers.is_valid_number` accepts the digits as an Indonesian number."""
    of_all, of_a_kind = _home_patterns()
    national = {digits, digits.removeprefix("0")}  # some toll-free numbers begin with 00
    return any(of_all.fullmatch(each) and of_a_kind.fullmatch(each) for each in national)


@cache
def _home_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the pattern of every national number, and that of the kinds looked for."""
    from phonenumbers import PhoneMetadata

    home = PhoneMetadata.metadata_for_region(_HOME)
    of_all, *kinds = (
        getattr(home, name).national_number_pattern for name in ("general_desc", *_KINDS_OF_PHONES)
    )
    return re.compile(of_all), re.compile("|".join(kinds))


def _sign_before(text: str, start: int) -> int:
    found = _PLUS.search(text[max(0, start - 3) : start])
    return len(found[0]) if found else int(text[start - 1 : start] == "(")
