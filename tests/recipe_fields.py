"""Every field of a recipe, by its dotted path."""

from collections.abc import Iterator

from pydantic.fields import FieldInfo

from tasks.core.recipe.fields import part_in
from tasks.core.recipe.part import RecipePart


def fields_below(model: type[RecipePart], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field with its dotted path, parents first. List items add nothing to the path."""
    for name, info in model.model_fields.items():
        below = f"{path}.{name}" if path else name
        yield below, info
        part = part_in(info.annotation)
        if part is not None:
            yield from fields_below(part, below)
