"""Plan a recipe without running it."""

from tasks.core.home import home
from tasks.core.hub.download.sources import Sources
from tasks.core.planning.plan import Plan
from tasks.core.preflight.checks import check_inputs, check_keys, require_own_template
from tasks.core.preflight.plan import plan_of
from tasks.core.recipe import Recipe


def plan_recipe(recipe: Recipe, *, gpus: str | None) -> Plan:
    """Check the recipe's inputs and keys, and return its plan for this machine or these GPUs."""
    check_inputs(recipe)
    check_keys(recipe)
    sources = Sources.of(recipe, home())
    require_own_template(recipe, sources)
    return plan_of(recipe, home(), gpus=gpus, sources=sources)
