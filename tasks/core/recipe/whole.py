"""The whole recipe, and that of the original Kawan Usaha system."""

from typing import Literal

from pydantic import Field

from tasks.core.recipe.deploy import Deploy
from tasks.core.recipe.edit import Edit
from tasks.core.recipe.evaluate import Evaluate
from tasks.core.recipe.finetune import Finetune
from tasks.core.recipe.part import RecipePart
from tasks.core.recipe.publish import Publish
from tasks.core.recipe.source import Base, Delta

Keep = Literal["all", "released"]


class Recipe(RecipePart):
    """One model, from its sources to its deployment."""

    name: str = Field(
        "kawan-usaha-13b",
        pattern=r"^[a-z0-9][a-z0-9.-]*$",
        title="Name",
        description="Name of the runs and of the deployment of this recipe.",
    )
    hub: Literal["huggingface", "embedded"] = Field(
        "huggingface",
        title="Hub",
        description="`huggingface` is the Hub at HF_ENDPOINT, huggingface.co by default; "
        "`embedded` is a small one on this machine, for the demo and for trials.",
    )
    when_offline: Literal["refuse", "last-commit"] = Field(
        "refuse",
        title="When the Hub is unreachable",
        description="What a run does if it cannot resolve a branch or tag: `refuse` stops it; "
        "`last-commit` uses the last commit that a run resolved it to, if the store has it. That "
        "commit may be outdated, and the run warns about it. A revision that is a full commit "
        "needs no Hub.",
    )
    template: str = Field(
        "vicuna_v1.1",
        title="Conversation template",
        description="FastChat template that the model is trained, evaluated and served with. A "
        "model that records another template is refused unless it is fine-tuned here.",
    )
    base: Base = Field(
        default_factory=Base, title="Base model", description="The model to start from."
    )
    delta: Delta | None = Field(
        None,
        title="Delta",
        description="Weights to add to the base. Leave out if the base is already complete.",
    )
    edit: Edit | None = Field(
        None,
        title="Edit",
        description="Changes to the architecture. Leave out to keep it.",
    )
    finetune: Finetune | None = Field(
        None,
        title="Fine-tune",
        description="Training of a LoRA adapter. Leave out to keep the weights.",
    )
    evaluate: Evaluate = Field(
        default_factory=Evaluate,
        title="Evaluate",
        description="Measurements and release limits. The model is always evaluated.",
    )
    publish: Publish | None = Field(
        None,
        title="Publish",
        description="Where to publish the model. Leave out to keep it on this machine.",
    )
    deploy: Deploy | None = Field(
        None,
        title="Deploy",
        description="How to serve the model. Leave out to build without serving.",
    )
    keep: Keep = Field(
        "all",
        title="Models kept",
        description="Which models stay on disk: `all`, so that every stage can be repeated "
        "immediately, or only the `released` one. Inputs that no later stage needs are then "
        "deleted, and made or downloaded again if a changed recipe needs them.",
    )


KAWAN_USAHA = Recipe(
    delta=Delta(),
    edit=Edit(),
    finetune=Finetune(processes=2),
    deploy=Deploy(switch="replace"),  # two 13B models do not fit on one card of 24 GB
)
"""The system as the team originally built it, with every stage that it had."""
