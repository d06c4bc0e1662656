"""Parts of a text that are personal data, and of which kind."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["email", "phone", "card", "nik", "npwp"]


@dataclass(frozen=True, order=True)
class Span:
    """From start to end, as Python slices."""

    start: int
    end: int
    kind: Kind
