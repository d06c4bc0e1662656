"""Numbers on the command line, all checked by one rule while the arguments are parsed.

An option accepts what the recipe's field of the same meaning accepts, or the range stated beside
it. A number out of range, infinite or NaN is refused with the range and exit code 2.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Limit = Ge | Gt | Le | Lt
_COMPARED: tuple[tuple[type[Limit], str, str, Callable[[Any, Any], bool]], ...] = (
    (Ge, "ge", "at least {}", operator.ge),
    (Gt, "gt", "above {}", operator.gt),
    (Le, "le", "at most {}", operator.le),
    (Lt, "lt", "below {}", operator.lt),
)


@dataclass(frozen=True)
class Range:
    """The numbers that an option accepts: whole or not, within limits, or one of a few."""

    kind: type[int] | type[float]
    limits: tuple[Limit, ...] = ()
    choices: tuple[int, ...] = ()

    @classmethod
    def of(cls, info: FieldInfo) -> "Range":
        """Return the range of a recipe's field that is a number, or a number or None."""
        parts = (info.annotation, *get_args(info.annotation))
        if get_origin(info.annotation) is Literal:
            return cls(int, choices=get_args(info.annotation))
        limits = tuple(each for each in info.metadata if isinstance(each, Limit))
        return cls(int if int in parts else float, limits)

    def __str__(self) -> str:
        """Return the limits in words, such as "at least 1, at most 16"; empty without any."""
        words = [
            form.format(_shown(getattr(limit, attribute)))
            for kind, attribute, form, _ in _COMPARED
            for limit in self.limits
            if isinstance(limit, kind)
        ]
        named = [f"one of {', '.join(map(str, self.choices))}"] if self.choices else []
        return ", ".join([*words, *named])

    def __contains__(self, number: float) -> bool:
        """Whether it is finite, within the limits, and one of the choices if there are some."""
        kept = all(
            compare(number, getattr(limit, attribute))
            for kind, attribute, _, compare in _COMPARED
            for limit in self.limits
            if isinstance(limit, kind)
        )
        finite = isinstance(number, int) or math.isfinite(number)  # which overflows for large ones
        return finite and kept and (not self.choices or number in self.choices)

    def parse(self, value: Any) -> int | float:
        """Return the number. Raises typer.BadParameter for anything else."""
        try:
            number = self.kind(value)
        except ValueError:
            number = math.nan
        if number not in self:
            named = "a whole number" if self.kind is int else "a finite number"
            expected = ", ".join(filter(None, (named, str(self))))
            raise typer.BadParameter(f"expected {expected}; found {value}")
        return number

    def option(self, text: str, **more: Any) -> Any:
        """Return the Typer option for such a number; its help ends with the limits."""
        limits = str(self)
        shown = f"{text} {limits[0].upper()}{limits[1:]}." if limits else text
        return typer.Option(
            help=shown, parser=self.parse, metavar=f"<{self.kind.__name__}>", **more
        )


def _shown(limit: Any) -> str:
    """Return a limit as people write it: a whole number with all its digits."""
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def number_of(model: type[BaseModel], field: str, text: str) -> Any:
    """Return the option for a number within the limits of a recipe's field."""
    return Range.of(model.model_fields[field]).option(text)


def integer(text: str, *limits: Limit) -> Any:
    """Return the option for a whole number within limits."""
    return Range(int, limits).option(text)


def decimal(text: str, *limits: Limit) -> Any:
    """Return the option for a finite number within limits."""
    return Range(float, limits).option(text)
