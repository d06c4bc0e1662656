"""Runs of digits as people write them: with spaces, points or dashes between groups.

Amounts of money, dates and times of day are excluded: no other number is written in their forms.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

FEWEST_DIGITS = 9
"""The shortest telephone number with its area code; all other numbers are longer."""

_BETWEEN = r"[ \t\u00a0\u2009\u202f.()/\u2010-\u2014-]{0,3}"
_RUN = re.compile(rf"\d(?:{_BETWEEN}\d){{{FEWEST_DIGITS - 1},}}")
_GROUP = re.compile(r"\d+")
_NOT_A_RUN = re.compile(
    # An NPWP, which is kept: its last six digits look like an amount.
    r"(?P<stays>(?<!\d)0?\d\d\.?\d{3}\.\d{3}\.\d[-.]\d{3}\.\d{3}(?!\d))"
    r"|(?:\bRp|\bIDR)\.?\s?\d[\d.,]*"
    # 1.250.000 or 1.250.000,50: groups of three after a point, and none that begins with 0
    r"|(?<![\d.,+])[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?(?![.,]?\d)"
    r"|(?<!\d)\d{1,2}(?P<by>[-/. ])\d{1,2}(?P=by)(?:19|20)\d\d(?!\d)"
    r"|(?<!\d)(?:19|20)\d\d(?P<of>[-/.])\d{1,2}(?P=of)\d{1,2}(?!\d)"
    r"|(?<![\d.:])(?:[01]?\d|2[0-4])[.:][0-5]\d(?:[.:][0-5]\d)?(?![.:]?\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Group:
    """Consecutive digits."""

    start: int
    end: int
    digits: str


def groups_of_runs(text: str) -> Iterator[list[Group]]:
    """Yield the groups of each run of at least FEWEST_DIGITS digits."""
    if _RUN.search(text) is None:
        return
    for run in _RUN.finditer(_NOT_A_RUN.sub(_blank, text)):
        yield [
            Group(each.start(), each.end(), _ascii(each[0]))
            for each in _GROUP.finditer(run.string, run.start(), run.end())
        ]


def _blank(found: re.Match[str]) -> str:
    return found["stays"] or "#" * len(found[0])


def _ascii(digits: str) -> str:
    """Return the digits as 0 to 9, from any script."""
    return digits if digits.isascii() else "".join(str(int(each)) for each in digits)
