"""What Prefect's form is made of: the schema of the flows' parameters, as Prefect makes it."""

from typing import Any, get_args

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows.across import rebuild_across
from flows.lifecycle import rebuild, rebuild_recipe
from flows.stage_names import StageName
from tasks.core.recipe import KAWAN_USAHA, Base, Finetune, Recipe
from tasks.core.recipe.file import recipe_names

FLOWS = [rebuild, rebuild_recipe]
Json = dict[str, Any]


def form(flow: Flow[..., Any]) -> Json:
    return parameter_schema(flow).model_dump_for_openapi()


def filled(value: Json, schema: Json, definitions: Json) -> Json:
    """The JSON that the form sends: what is given, and each default of the schema beside it."""
    sent = dict(value)
    for name, field in _object(schema, definitions)["properties"].items():
        if name not in sent and "default" in field:
            sent[name] = field["default"]
        if isinstance(sent.get(name), dict):
            sent[name] = filled(sent[name], field, definitions)
    return sent


def _object(schema: Json, definitions: Json) -> Json:
    """The schema of an object, which may be a reference, or one of several."""
    for each in schema.get("anyOf", [schema]):
        if "$ref" in each:
            found: Json = definitions[each["$ref"].rsplit("/", 1)[1]]
            return found
    return schema


@pytest.mark.parametrize("flow", FLOWS)
def test_every_field_has_a_title_a_description_and_a_default(flow: Flow[..., Any]) -> None:
    schema = form(flow)
    fields = schema["properties"]
    titles = {
        name: field.get("title") or _object(field, schema["definitions"])["title"]
        for name, field in fields.items()
    }
    assert titles == {
        "recipe": "Recipe",
        "from_stage": "First stage",
        "until": "Last stage",
        "overrides": "Overrides",
        "override_gate": "Override of the gate",
    }
    for name, field in fields.items():
        assert field["description"], name
        assert "default" in field, name


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipe": ""},
        {"until": "marge"},
        {"from_stage": "deployment"},
        {"overrides": ["finetune.epochs"]},
        {"overrides": ["--set finetune.epochs=2"]},
        {"overrides": "finetune.epochs=2"},
        {"override_gate": 7},
    ],
    ids=str,
)
def test_wrong_value_is_refused_by_the_form(wrong: Json) -> None:
    with pytest.raises(ValidationError):
        validate(wrong, form(rebuild_recipe), raise_on_error=True)


@pytest.mark.parametrize(
    "right",
    [
        {"recipe": "/data/mine.yaml", "override_gate": ""},
        {"overrides": ["finetune.epochs=2", "deploy=", "edit.activations=[{layers: all}]"]},
    ],
    ids=str,
)
def test_good_value_is_taken_by_the_form(right: Json) -> None:
    validate(right, form(rebuild_recipe), raise_on_error=True)


@pytest.mark.parametrize("flow", [rebuild_recipe, rebuild_across])
def test_form_takes_the_defaults_that_it_fills_in_itself(flow: Flow[..., Any]) -> None:
    schema = form(flow)
    defaults = {name: field["default"] for name, field in schema["properties"].items()}
    validate(defaults, schema, raise_on_error=True)


def test_every_field_of_the_recipe_has_a_title_and_a_description() -> None:
    definitions = form(rebuild)["definitions"]
    for part, schema in definitions.items():
        for name, field in schema.get("properties", {}).items():
            assert field.get("title") or _object(field, definitions)["title"], f"{part}.{name}"
            assert field.get("description"), f"{part}.{name}"


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("name", ["from_stage", "until"])
def test_every_stage_is_a_choice(flow: Flow[..., Any], name: str) -> None:
    assert form(flow)["properties"][name]["enum"] == list(get_args(StageName))


def test_a_recipe_is_chosen_by_its_name_or_given_by_its_path() -> None:
    names, path = form(rebuild_recipe)["properties"]["recipe"]["anyOf"]
    assert names["enum"] == recipe_names()
    assert "enum" not in path


def test_every_path_says_on_which_machine_it_is() -> None:
    definitions = form(rebuild)["definitions"]
    paths = {
        f"{part}.{name}": field["description"]
        for part, schema in definitions.items()
        for name, field in schema.get("properties", {}).items()
        if any(each.get("format") == "path" for each in field.get("anyOf", [field]))
    }
    assert len(paths) == 16
    assert [name for name, words in paths.items() if "machine" not in words] == []
    assert "machine" in definitions["Publish"]["properties"]["target"]["description"]


def test_a_recipe_with_directories_stays_valid_through_the_form() -> None:
    schema = form(rebuild)
    given = {"name": "mine", "base": {"directory": "/m"}, "delta": {"directory": "/d"}}
    sent = filled(given, schema["properties"]["recipe"], schema["definitions"])
    assert sent["base"]["revision"] == "main"  # the form fills defaults in
    recipe = Recipe.model_validate(sent)
    assert (str(recipe.base.directory), recipe.base.repo) == ("/m", None)


SEVERAL = Finetune(data=["a.json", {"repo": "a/b", "weight": 2}, {"collected": "toko"}])


@pytest.mark.parametrize(
    "recipe",
    [
        KAWAN_USAHA,
        Recipe(base=Base(repo="a/b", revision="v1")),
        Recipe(finetune=SEVERAL),
    ],
    ids=["original", "revision", "several sources"],
)
def test_any_other_recipe_comes_out_of_the_form_as_it_went_in(recipe: Recipe) -> None:
    schema = form(rebuild)
    given = recipe.model_dump(mode="json", exclude_defaults=True)
    sent = filled(given, schema["properties"]["recipe"], schema["definitions"])
    assert Recipe.model_validate(sent) == recipe


def test_the_form_shows_a_list_of_sources_and_what_each_can_be() -> None:
    definitions = form(rebuild)["definitions"]
    data = definitions["Finetune"]["properties"]["data"]
    assert data["type"] == "array"
    source = _object(data["items"], definitions)["properties"]
    assert source["format"]["enum"] == ["auto", "fastchat", "openai", "sharegpt", "preferences"]
    sent = {"recipe": {"name": "mine", "finetune": {"data": [{"repo": "a/b", "weight": 0.5}]}}}
    validate(sent, form(rebuild), raise_on_error=True)
    with pytest.raises(ValidationError):
        validate({"recipe": {"finetune": {"data": [{"weight": "two"}]}}}, form(rebuild), True)
