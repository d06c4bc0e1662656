"""The recipe: everything that decides what is built and served, one submodel a stage.

Frozen pydantic models that refuse unknown fields. Prefect's form is made from the titles and
descriptions here, and the defaults are the Kawan Usaha system. Only what can be judged without a
model at hand is checked here (whether layer 47 exists is the edit stage's question); neither torch
nor transformers is imported, and a token has no field to stand in.
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
