"""The parameters in Prefect's forms: their titles, and the values that a form accepts.

Descriptions are the `Args:` of the flows, where Prefect reads them. Whatever a form cannot check is
refused by the run, with an explanation.
"""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from flows.stage_names import StageName
from tasks.core.recipe import Recipe
from tasks.core.recipe.file import recipe_names
from tasks.core.recipe.overrides import PATTERN

_BY_NAME_OR_PATH = {
    "anyOf": [
        {"type": "string", "title": "Name", "enum": recipe_names()},
        {"type": "string", "title": "Path of a YAML file", "minLength": 1},
    ]
}
_ONE_OVERRIDE = {"type": "string", "title": "field=value", "pattern": PATTERN}


def _titled(title: str) -> Any:
    """Return the title of a parameter in the form, which is its variable's name by default."""
    return Field(json_schema_extra={"title": title})


WholeRecipe = Annotated[Recipe, _titled("Recipe")]
RecipeName = Annotated[str, WithJsonSchema(_BY_NAME_OR_PATH), _titled("Recipe")]
FirstStage = Annotated[StageName, _titled("First stage")]
LastStage = Annotated[StageName, _titled("Last stage")]
Overrides = Annotated[
    tuple[Annotated[str, WithJsonSchema(_ONE_OVERRIDE)], ...], _titled("Overrides")
]
# A schema that allowed null would make the form refuse a field that it left empty itself.
GateReason = Annotated[
    str | None, WithJsonSchema({"type": "string"}), _titled("Override of the gate")
]
Deployed = Annotated[str, _titled("Deployment")]
MinNew = Annotated[int, Field(ge=0, json_schema_extra={"title": "New answers"})]
MinWaiting = Annotated[int, Field(ge=1, json_schema_extra={"title": "New answers"})]
MaxRatio = Annotated[
    float, Field(gt=0, json_schema_extra={"title": "Highest perplexity against the release"})
]
