"""The fields of a recipe as data, for everything that is made from the models' own words."""

from pathlib import PurePath
from typing import Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from tasks.core.recipe.part import RecipePart


def part_in(annotation: object) -> type[RecipePart] | None:
    """Return the part of a recipe that a field holds, alone or in a list; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, RecipePart):
        return annotation
    parts = (part_in(each) for each in get_args(annotation))
    return next((part for part in parts if part is not None), None)


def choices_of(annotation: object) -> tuple[object, ...]:
    """Return the values that a field is restricted to, none if it takes any."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return parts
    if origin is tuple:
        return choices_of(parts[0])
    choices = [choices_of(part) for part in parts if part is not type(None)]
    return tuple(value for of_part in choices for value in of_part) if all(choices) else ()


def default_of(info: FieldInfo) -> object:
    """Return the default of a field, None if it has none."""
    return None if info.is_required() else info.get_default(call_default_factory=True)


def yaml_of(value: object) -> str:
    """Return a value in one line of YAML."""
    plain = value.as_posix() if isinstance(value, PurePath) else to_jsonable_python(value)
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("...\n").rstrip()
