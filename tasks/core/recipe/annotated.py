"""A recipe as YAML with a comment for every field, to be changed by hand.

What the recipe says stands as it is; everything else stands commented out with its default, stages
that it leaves out included. The comments are the titles and descriptions of the models. The
invariant: the text loads as a recipe equal to the one that it was made from.
"""

import textwrap
from collections.abc import Iterable, Iterator

from pydantic.fields import FieldInfo

from tasks.core.recipe.fields import choices_of, default_of, part_in, yaml_of
from tasks.core.recipe.part import RecipePart
from tasks.core.recipe.whole import Recipe

_WIDTH = 100
_INDENT = "  "

_HEAD = (
    "Every field of a recipe. Remove the # before a field to change its default; remove a stage to "
    "leave it out. `kawan-usaha recipe show FILE` checks this file and prints the result."
)


def annotated(recipe: Recipe) -> str:
    """Return the recipe as YAML with comments."""
    lines = [*_comment(_HEAD, 0), ""]
    for name, info in Recipe.model_fields.items():
        lines += [*_field(name, info, recipe, 0), ""]
    return "\n".join(lines)


def _part(model: type[RecipePart], part: RecipePart | None, depth: int) -> Iterator[str]:
    """Yield the lines of a part, indented; without one, the lines of all its defaults."""
    for name, info in model.model_fields.items():
        yield from _field(name, info, part, depth)


def _field(name: str, info: FieldInfo, part: RecipePart | None, depth: int) -> Iterator[str]:
    value = default_of(info) if part is None else getattr(part, name)
    is_said = part is None or _is_said(part, name)
    yield from _comment(_words(info, value, is_said=is_said), depth)
    if is_said:
        yield from _value(name, info, value, depth, is_said=part is not None)
    else:
        yield from _commented_out(_value(name, info, value, depth, is_said=False), depth)


def _value(
    name: str, info: FieldInfo, value: object, depth: int, *, is_said: bool
) -> Iterator[str]:
    """Yield the lines of a field's value; where it is not said, nothing below it is either."""
    margin, model = _INDENT * depth, part_in(info.annotation)
    if isinstance(value, RecipePart):
        empty = "" if not is_said or _says(value) else " {}"
        yield f"{margin}{name}:{empty}"
        yield from _part(type(value), value if is_said else None, depth + 1)
    elif model is not None and isinstance(value, tuple) and value:
        yield f"{margin}{name}:"
        for item in value:
            if is_said and not _says(item):
                yield f"{margin}{_INDENT}- {{}}"
                continue
            first, *others = _part(model, item if is_said else None, depth + 2)
            yield f"{margin}{_INDENT}- {first.lstrip()}"
            yield from others
    elif model is not None and value is None:
        yield f"{margin}{name}:"
        yield from _part(model, None, depth + 1)
    else:
        yield f"{margin}{name}: {yaml_of(value)}"


def _is_said(part: RecipePart, name: str) -> bool:
    """Return whether a part says a field itself: not one that it leaves out in so many words."""
    if isinstance(part, Recipe) and name == "name":  # a file must hold one field at least
        return True
    is_left_out = getattr(part, name) is None and default_of(type(part).model_fields[name]) is None
    return name in part.model_fields_set and not is_left_out


def _says(part: RecipePart) -> bool:
    return any(_is_said(part, name) for name in type(part).model_fields)


def _words(info: FieldInfo, value: object, *, is_said: bool) -> str:
    """Return the comment of a field: title, description, choices, and a default not shown below."""
    words = f"{info.title}: {info.description}"
    default, model = default_of(info), part_in(info.annotation)
    if choices := choices_of(info.annotation):
        words += f" One of: {', '.join(map(yaml_of, choices))}."
    if info.is_required():
        words += " Required."
    elif is_said and model is None and default is not None and value != default:
        words += f" Default: {yaml_of(default)}."
    if model is not None and isinstance(value, tuple) and not value:
        words += f" Each has: {', '.join(model.model_fields)}."
    return words


def _comment(words: str, depth: int) -> list[str]:
    margin = f"{_INDENT * depth}# "
    return textwrap.wrap(
        words,
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _commented_out(lines: Iterable[str], depth: int) -> Iterator[str]:
    margin = _INDENT * depth
    return (f"{margin}# {line.removeprefix(margin)}" for line in lines)
