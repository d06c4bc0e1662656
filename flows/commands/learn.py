"""`kawan-usaha learn`."""

from typing import Annotated

import typer
from annotated_types import Ge, Gt

from flows.command_line.flow_runs import run_learn
from flows.command_line.numbers import decimal, integer
from flows.command_line.output import AsJson
from flows.command_line.recipe_options import Overrides, override_texts


def learn(
    recipe: Annotated[str, typer.Argument(help="The name of a released recipe, or its file.")],
    *,
    deployment: Annotated[
        str,
        typer.Option(
            help="The deployment whose conversations are learned; by default the recipe's own."
        ),
    ] = "",
    min_new: Annotated[
        int,
        integer(
            "How many new accepted answers are worth a training; with 0 also a set from which "
            "answers were only deleted.",
            Ge(0),
        ),
    ] = 50,
    max_ratio: Annotated[
        float,
        decimal("Highest perplexity on reviewed conversations, as a ratio to the release.", Gt(0)),
    ] = 1.0,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train a released recipe with what was reviewed since; release it if it is better.

    If it is not, a page explains why, by topic. The same reviewed set is learned only once.

    Example: `kawan-usaha learn demo --min-new 10`
    """
    run_learn(
        recipe,
        deployment=deployment,
        min_new=min_new,
        max_ratio=max_ratio,
        overrides=override_texts(overrides),
        as_json=as_json,
    )
