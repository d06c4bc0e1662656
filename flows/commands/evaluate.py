"""`kawan-usaha evaluate`: figures of a model, alone or against another, and a verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.numbers import number_of
from flows.commands.output import AS_JSON, command_log, followed, output_file, problems_of, show
from flows.commands.sources import MODEL_HELP, TEMPLATE, local_model
from tasks.core.recipe import Evaluate, Gate

if TYPE_CHECKING:
    from contextlib import ExitStack

    from tasks.core.conversation.leaks import Overlap


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command()(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    *,
    against: Annotated[str | None, typer.Option(help="The model to compare with.")] = None,
    template: Annotated[str | None, TEMPLATE] = None,
    conversations: Annotated[Path | None, typer.Option(help="Held-out conversations.")] = None,
    training_data: Annotated[
        Path | None,
        typer.Option(help="What the model was trained on, to be held against the held-out ones."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts to answer.")] = None,
    max_dropped_share: Annotated[
        float | None,
        number_of(Evaluate, "max_dropped_share", "A larger share of unusable records is an error."),
    ] = None,
    max_conversations: Annotated[
        int | None, number_of(Evaluate, "max_conversations", "How many are measured.")
    ] = None,
    max_prompts: Annotated[
        int | None, number_of(Evaluate, "max_prompts", "How many are answered.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, number_of(Evaluate, "max_new_tokens", "Tokens an answer.")
    ] = None,
    max_length_tokens: Annotated[
        int | None, number_of(Evaluate, "max_length_tokens", "Tokens a conversation.")
    ] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    benchmark: Annotated[
        list[str] | None, typer.Option(help="A task of lm-eval; may be given several times.")
    ] = None,
    benchmark_tasks: Annotated[
        Path | None, typer.Option(help="A directory of your own lm-eval task files.")
    ] = None,
    benchmark_limit: Annotated[
        int | None, number_of(Evaluate, "benchmark_limit", "Questions a task.")
    ] = None,
    max_perplexity: Annotated[
        float | None, number_of(Gate, "max_perplexity", "Limit: of the model.")
    ] = None,
    max_perplexity_ratio: Annotated[
        float | None,
        number_of(Gate, "max_perplexity_ratio", "Limit: against the other model; 1.0 is no rise."),
    ] = None,
    report: Annotated[Path | None, output_file("Write the page there.")] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Measure perplexity, distance to another model, answers and speed; judge by limits.

    Exit code 1 when a limit is not kept. Fields that are not given are as in a recipe.

    Example: `kawan-usaha evaluate edited --against merged --report page.html`
    """
    from contextlib import ExitStack

    from tasks.core.conversation.template import get_template
    from tasks.core.errors import UsageError
    from tasks.core.evaluation.evaluate import evaluate_models, measurement_identity
    from tasks.core.evaluation.figures import Role, subjects_of
    from tasks.core.evaluation.gate import apply_gate
    from tasks.core.evaluation.report import report_html
    from tasks.core.evaluation.summary import plain_figures, summary_markdown
    from tasks.core.files.durable import write_atomically
    from tasks.core.files.given import at_rest
    from tasks.core.files.temporary import scratch_directory
    from tasks.core.model.template_record import DEFAULT_TEMPLATE, template_for

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
    with ExitStack() as held:
        streams = {
            "conversations": held.enter_context(at_rest(settings.conversations)),
            "prompts": held.enter_context(at_rest(settings.prompts)),
        }
        settings = settings.model_copy(update=streams)
        # What is missing is told before a model is fetched.
        get_template(template or DEFAULT_TEMPLATE)
        measurement_identity(settings, template or DEFAULT_TEMPLATE)
        overlap = _overlap(training_data, settings, held)
        models: list[tuple[Role, Path]] = [("model", held.enter_context(local_model(model)))]
        if against is not None:
            other = held.enter_context(local_model(against))
            if not other.samefile(models[0][1]):  # the gate says that it does not apply
                models.insert(0, ("against", other))
        template = template_for(models[-1][1], template)
        out = held.enter_context(scratch_directory("evaluate"))
        _, say = held.enter_context(followed("evaluate"))
        outcome = evaluate_models(
            subjects_of([(role, path.absolute()) for role, path in models]),
            settings,
            template=template,
            out=out,
            overlap=overlap,
            on_line=say,
            log=command_log("evaluate"),
        )
    verdict = apply_gate(outcome, settings.gate)
    if report is not None:
        write_atomically(report, report_html(model, outcome, verdict))
    text = summary_markdown(outcome, verdict)
    show(plain_figures(outcome, verdict), as_json=as_json, text=text)
    if not verdict.passed:
        raise typer.Exit(1)


def _overlap(training: Path | None, settings: Evaluate, held: "ExitStack") -> "Overlap | None":
    """Return what of the held-out conversations stands in the training data, if that is named."""
    from tasks.core.conversation.leaks import find_leaks
    from tasks.core.files.given import at_rest

    if training is None:
        return None
    kept = held.enter_context(at_rest(training))
    return find_leaks(kept, settings.conversations)


def _settings(**given: object) -> Evaluate:
    """Return the settings that are given, the recipe's defaults for the others, as whole paths."""
    from pydantic import ValidationError

    from tasks.core.errors import UsageError
    from tasks.core.recipe import Recipe
    from tasks.core.recipe.file import located

    wanted = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Evaluate.model_validate(wanted)
    except ValidationError as error:
        raise UsageError(
            "These options do not fit.",
            found=problems_of(error, {"benchmarks": "benchmark"}),
            next_step="See `kawan-usaha evaluate --help`.",
        ) from error
    return located(Recipe(evaluate=settings)).evaluate
