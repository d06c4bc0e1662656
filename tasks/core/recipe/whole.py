"""The whole recipe, and the one of the system as it was built by hand."""

from typing import Literal

from pydantic import Field

from tasks.core.recipe.deploy import Deploy
from tasks.core.recipe.edit import Edit
from tasks.core.recipe.evaluate import Evaluate
from tasks.core.recipe.finetune import Finetune
from tasks.core.recipe.part import Part
from tasks.core.recipe.publish import Publish
from tasks.core.recipe.source import Base, Delta

Keep = Literal["all", "released"]


class Recipe(Part):
    """One model, from its sources to its service."""

    name: str = Field(
        "kawan-usaha-13b",
        pattern=r"^[a-z0-9][a-z0-9.-]*$",
        title="Name",
        description="Names the runs and the deployment of this recipe.",
    )
    hub: Literal["huggingface", "embedded"] = Field(
        "huggingface",
        title="Hub",
        description="`huggingface` is the Hub that HF_ENDPOINT names, by default huggingface.co; "
        "`embedded` is a small one on this machine, for the demo and for trials.",
    )
    when_offline: Literal["refuse", "last-commit"] = Field(
        "refuse",
        title="When the Hub does not answer",
        description="What a run does that cannot ask which commit a branch or tag names now: "
        "`refuse`, or go on with the `last-commit` that a run has seen, if the store has it. That "
        "may be an old one; the run warns of it. A full commit as revision needs no answer.",
    )
    template: str = Field(
        "vicuna_v1.1",
        title="Conversation template",
        description="The FastChat template that the model is trained, tested and served with. A "
        "model that records another one is refused, unless it is fine-tuned here.",
    )
    base: Base = Field(default_factory=Base, title="Base model", description="Always needed.")
    delta: Delta | None = Field(
        None, title="Delta", description="Leave out when the base is already the whole model."
    )
    edit: Edit | None = Field(
        None, title="Edit", description="Leave out to keep the architecture as it is."
    )
    finetune: Finetune | None = Field(
        None, title="Fine-tune", description="Leave out to keep the weights as they are."
    )
    evaluate: Evaluate = Field(
        default_factory=Evaluate, title="Evaluate", description="Always done."
    )
    publish: Publish | None = Field(
        None, title="Publish", description="Leave out to keep the model on this machine."
    )
    deploy: Deploy | None = Field(
        None, title="Deploy", description="Leave out to build without serving."
    )
    keep: Keep = Field(
        "all",
        title="Keep",
        description="Which models stay on the disk: `all`, so that every stage can be repeated at "
        "once, or only the `released` one. Inputs that no later stage needs are then freed, and "
        "made again (downloads included) when a changed recipe needs them.",
    )


KAWAN_USAHA = Recipe(
    delta=Delta(),
    edit=Edit(),
    finetune=Finetune(processes=2),
    deploy=Deploy(switch="replace"),  # two 13B models do not fit on one card of 24 GB
)
"""The system as the team built it by hand. A stage that a recipe leaves out is not run, so this
names each one that the original had."""
