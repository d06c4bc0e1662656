"""`kawan-usaha plan`."""

from typing import Annotated

import typer

from flows.command_line.output import AsJson, show
from flows.command_line.recipe_options import Overrides, RecipeArgument, override_texts
from tasks.core.planning.text import plan_text
from tasks.core.recipe.file import find_recipe, load_recipe, located
from tasks.core.recipe.overrides import overridden


def plan(
    recipe: RecipeArgument,
    gpus: Annotated[
        str | None,
        typer.Option(
            help="Plan for these GPUs instead of this machine's: 2xL4, 1xRTX4090, 2x24GiB."
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the disk, memory and time that a recipe needs, and whether it fits.

    Example: `kawan-usaha plan kawan-usaha-13b --gpus 2xL4`
    """
    from flows.actions.plan import plan_recipe

    wanted = located(overridden(load_recipe(find_recipe(recipe)), override_texts(overrides)))
    found = plan_recipe(wanted, gpus=gpus)
    show(found.as_dict(), as_json=as_json, text=plan_text(found))
