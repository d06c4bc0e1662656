"""A recipe with every default filled in, and where each value comes from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from tasks.core.recipe.fields import default_of, yaml_of
from tasks.core.recipe.part import RecipePart
from tasks.core.recipe.whole import Recipe

Origin = Literal["file", "override", "default"]

_MARKS: Mapping[Origin, str] = {"file": "", "override": "  # --set", "default": "  # default"}


@dataclass(frozen=True)
class Resolved:
    """A validated recipe, what its file says, and the paths of the fields that were overridden."""

    recipe: Recipe
    content: Mapping[str, object]
    overrides: tuple[str, ...] = ()

    def as_yaml(self) -> str:
        """Return the whole recipe as YAML; each value that is not the file's own is marked."""
        return "\n".join(self._lines(self.recipe, self.content, "", ""))

    def as_plain(self) -> dict[str, JsonValue]:
        """Return the whole recipe as plain values, and the origin of each field by its path."""
        return {
            "recipe": _plain(self.recipe),
            "origins": dict(self._origins(self.recipe, self.content, "")),
        }

    def _lines(self, part: RecipePart, content: object, path: str, margin: str) -> Iterator[str]:
        for name, value in _fields(part):
            below = f"{path}{name}"
            mark = _MARKS[self._origin(part, name, content, below)]
            inner = content.get(name) if isinstance(content, Mapping) else None
            if isinstance(value, RecipePart):
                yield f"{margin}{name}:{mark}"
                yield from self._lines(value, inner, f"{below}.", f"{margin}  ")
            elif isinstance(value, tuple) and any(isinstance(each, RecipePart) for each in value):
                yield f"{margin}{name}:{mark}"
                for item, said in zip(value, _items(inner, len(value)), strict=True):
                    first, *others = self._lines(item, said, f"{below}.", f"{margin}    ")
                    yield f"{margin}  - {first.lstrip()}"
                    yield from others
            else:
                yield f"{margin}{name}: {yaml_of(value)}{mark}"

    def _origins(
        self, part: RecipePart, content: object, path: str
    ) -> Iterator[tuple[str, Origin]]:
        for name, value in _fields(part):
            below = f"{path}{name}"
            yield below, self._origin(part, name, content, below)
            inner = content.get(name) if isinstance(content, Mapping) else None
            items: list[tuple[RecipePart, object, str]] = []
            if isinstance(value, RecipePart):
                items = [(value, inner, below)]
            elif isinstance(value, tuple):
                said = _items(inner, len(value))
                items = [
                    (each, said[at], f"{below}.{at}")
                    for at, each in enumerate(value)
                    if isinstance(each, RecipePart)
                ]
            for each, of_it, place in items:
                yield from self._origins(each, of_it, f"{place}.")

    def _origin(self, part: RecipePart, name: str, content: object, path: str) -> Origin:
        if any(path == field or path.startswith(f"{field}.") for field in self.overrides):
            return "override"
        if isinstance(content, Mapping):
            return "file" if name in content else "default"
        if content is None:
            return "default"
        # A short form, such as a path for a source, says what differs from the defaults.
        said = getattr(part, name) != default_of(type(part).model_fields[name])
        return "file" if said else "default"


def _fields(part: RecipePart) -> Iterator[tuple[str, object]]:
    return ((name, getattr(part, name)) for name in type(part).model_fields)


def _items(content: object, count: int) -> Sequence[object]:
    """Return what the file says of each item of a list; a single item may stand without one."""
    if isinstance(content, list | tuple):
        items = list(content)
        return items if len(items) == count else [None] * count
    return [content] * count


def _plain(value: object) -> JsonValue:
    """Return a value as plain JSON types, with the fields that `model_dump` leaves out."""
    if isinstance(value, RecipePart):
        return {name: _plain(each) for name, each in _fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    plain: JsonValue = to_jsonable_python(value)
    return plain
