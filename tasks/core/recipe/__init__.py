"""The recipe: everything that decides what is built and served, one submodel per stage.

Frozen pydantic models that refuse unknown fields. Their titles, descriptions and defaults are the
only source of Prefect's form, of docs/recipe.md, of the JSON schema and of `recipe new`. Only what
can be checked without a model is checked here (the edit stage knows whether layer 47 exists).
Neither torch nor transformers is imported, and there is no field for a token or key.
"""

from tasks.core.recipe.deploy import Deploy
from tasks.core.recipe.edit import ActivationEdit, Edit, LayerSelector, RopeScalingEdit
from tasks.core.recipe.evaluate import Evaluate, Gate
from tasks.core.recipe.finetune import Finetune, Lora, Offload, Tracker
from tasks.core.recipe.judge import Judge
from tasks.core.recipe.publish import Publish
from tasks.core.recipe.source import Base, Delta, Dtype, Source
from tasks.core.recipe.whole import KAWAN_USAHA, Keep, Recipe

__all__ = [
    "KAWAN_USAHA",
    "ActivationEdit",
    "Base",
    "Delta",
    "Deploy",
    "Dtype",
    "Edit",
    "Evaluate",
    "Finetune",
    "Gate",
    "Judge",
    "Keep",
    "LayerSelector",
    "Lora",
    "Offload",
    "Publish",
    "Recipe",
    "RopeScalingEdit",
    "Source",
    "Tracker",
]
