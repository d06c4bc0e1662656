"""Spans of personal data in a text."""

from dataclasses import dataclass
from typing import Literal

PersonalDataKind = Literal["email", "phone", "card", "nik", "npwp"]


@dataclass(frozen=True, order=True)
class PersonalSpan:
    """Characters [start, end) of a text, and what kind of data they are."""

    start: int
    end: int
    kind: PersonalDataKind
