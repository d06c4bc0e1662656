"""`kawan-usaha evaluate`."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from flows.command_line.numbers import number_of
from flows.command_line.output import AsJson, option_errors, output_file
from flows.command_line.sources import Model, Template
from tasks.core.errors import UsageError
from tasks.core.recipe import Evaluate, Gate, Recipe
from tasks.core.recipe.file import located


def evaluate(
    model: Model,
    *,
    against: Annotated[str | None, typer.Option(help="The model to compare with.")] = None,
    template: Template = None,
    conversations: Annotated[Path | None, typer.Option(help="Held-out conversations.")] = None,
    training_data: Annotated[
        Path | None,
        typer.Option(help="The training data, to be searched for held-out conversations."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts to answer.")] = None,
    max_dropped_share: Annotated[
        float | None,
        number_of(Evaluate, "max_dropped_share", "A larger share of unusable records is an error."),
    ] = None,
    max_conversations: Annotated[
        int | None, number_of(Evaluate, "max_conversations", "The most conversations to measure.")
    ] = None,
    max_prompts: Annotated[
        int | None, number_of(Evaluate, "max_prompts", "The most prompts to answer.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, number_of(Evaluate, "max_new_tokens", "The most tokens of an answer.")
    ] = None,
    max_length_tokens: Annotated[
        int | None, number_of(Evaluate, "max_length_tokens", "The most tokens of a conversation.")
    ] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    benchmark: Annotated[
        list[str] | None, typer.Option(help="A task of lm-eval; repeatable.")
    ] = None,
    benchmark_tasks: Annotated[
        Path | None, typer.Option(help="A directory of your own lm-eval task files.")
    ] = None,
    benchmark_limit: Annotated[
        int | None, number_of(Evaluate, "benchmark_limit", "The most questions of a task.")
    ] = None,
    max_perplexity: Annotated[
        float | None, number_of(Gate, "max_perplexity", "Limit of the model's perplexity.")
    ] = None,
    max_perplexity_ratio: Annotated[
        float | None,
        number_of(
            Gate,
            "max_perplexity_ratio",
            "Limit of the perplexity as a ratio to the other model's; 1.0 allows no rise.",
        ),
    ] = None,
    report: Annotated[Path | None, output_file("Write the report page to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure perplexity, distance to another model, answers and speed; judge by limits.

    Exit code 1 if a limit is missed. Options that are not given have the recipe's defaults.

    Example: `kawan-usaha evaluate edited --against merged --report page.html`
    """
    if max_perplexity_ratio is not None and against is None:
        raise UsageError("--max-perplexity-ratio needs another model.", next_step="Add --against.")
    settings = _settings(
        conversations=conversations,
        prompts=prompts,
        max_dropped_share=max_dropped_share,
        max_conversations=max_conversations,
        max_prompts=max_prompts,
        max_new_tokens=max_new_tokens,
        max_length_tokens=max_length_tokens,
        device=device,
        benchmarks=benchmark,
        benchmark_tasks=benchmark_tasks,
        benchmark_limit=benchmark_limit,
        gate={
            "max_perplexity": max_perplexity,
            "max_perplexity_ratio": max_perplexity_ratio,
            "max_merge_ratio": None,
        },
    )
    from flows.actions.evaluate import measure, show_measured

    outcome = measure(
        model, settings, against=against, template=template, training_data=training_data
    )
    passed = show_measured(model, outcome, settings.gate, report=report, as_json=as_json)
    if not passed:
        raise typer.Exit(1)


def _settings(**given: object) -> Evaluate:
    """Return the given settings, with the recipe's defaults for the others and absolute paths."""
    wanted = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Evaluate.model_validate(wanted)
    except ValidationError as error:
        raise UsageError(
            "These options do not fit together.",
            found=option_errors(error, {"benchmarks": "benchmark"}),
            next_step="See `kawan-usaha evaluate --help`.",
        ) from error
    return located(Recipe(evaluate=settings)).evaluate
