"""The JSON schema of a recipe file, for editors and other tools.

Made from the models, so it has their titles, descriptions, defaults, choices and limits. Rules that
need more than one field are not in it; the program itself checks those. The invariant: the schema
accepts every recipe that the program accepts.
"""

from collections.abc import Mapping

from pydantic import JsonValue

from tasks.core.recipe.whole import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, JsonValue]:
    """Return the schema of a recipe file."""
    schema: dict[str, JsonValue] = {"$schema": DIALECT, **Recipe.model_json_schema()}
    _also_without_a_list(schema, "Finetune", "data", {"type": "string"})
    _also_without_a_list(schema, "ActivationEdit", "layers")
    return schema


def _also_without_a_list(
    schema: Mapping[str, JsonValue], part: str, field: str, *also: JsonValue
) -> None:
    """Accept a single item where the model makes a list of it; `also` are short forms of an item.

    In place, and not in the model: Prefect's form, made from the same models, shows the list alone.
    """
    definition = _mapping(_mapping(schema["$defs"])[part])
    found = _mapping(_mapping(definition["properties"])[field])
    item: list[JsonValue] = [*also, found.pop("items")]
    found.pop("type")
    items: JsonValue = {"anyOf": item}
    found["anyOf"] = [{"type": "array", "items": items}, *item]


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise TypeError(f"a schema has an object here, not {type(value).__name__}")
    return value
