"""`kawan-usaha evaluate`: figures of a model, alone or against another, and a verdict."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output import AS_JSON, show
from flows.commands.sources import MODEL_HELP, local_model

Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Json = Annotated[bool, AS_JSON]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    app.command()(evaluate)


def evaluate(
    model: Model,
    *,
    against: Annotated[str | None, typer.Option(help="The model to compare with.")] = None,
    template: Annotated[str, typer.Option(help="FastChat's template.")] = "vicuna_v1.1",
    conversations: Annotated[Path | None, typer.Option(help="Held-out conversations.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts to answer.")] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    max_perplexity_ratio: Annotated[
        float, typer.Option(help="The largest allowed rise against the other model.")
    ] = 1.25,
    report: Annotated[Path | None, typer.Option(help="Write the page there.")] = None,
    as_json: Json = False,
) -> None:
    """Measure perplexity, distance to another model and answers; judge by a limit.

    Exit code 1 when the limit is not kept.

    Example: `kawan-usaha evaluate edited --against merged --report report.html`
    """
    import tempfile

    from pydantic import ValidationError

    from tasks.core.errors import UsageError
    from tasks.core.evaluation.evaluate import evaluate as measure
    from tasks.core.evaluation.figures import Subject
    from tasks.core.evaluation.gate import judge
    from tasks.core.evaluation.report import render_html, render_markdown
    from tasks.core.files import write_atomically
    from tasks.core.recipe import Evaluate
    from tasks.core.recipe_file import project_path

    wanted: dict[str, object] = {
        "device": device,
        "gate": {"max_perplexity_ratio": max_perplexity_ratio if against else None},
    }
    wanted |= {
        name: project_path(path).absolute()
        for name, path in (
            ("conversations", conversations or Evaluate().conversations),
            ("prompts", prompts or Evaluate().prompts),
        )
    }
    try:
        settings = Evaluate.model_validate(wanted)
    except ValidationError as error:
        found = "; ".join(f"{p['loc'][-1]}: {p['msg']}" for p in error.errors())
        raise UsageError("These settings do not fit.", found=found) from error
    subjects = [Subject(role="against", path=local_model(against).absolute())] if against else []
    subjects.append(Subject(role="model", path=local_model(model).absolute()))
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-") as out:
        outcome = measure(
            subjects,
            settings,
            template=template,
            out=Path(out),
            on_line=lambda line: typer.echo(line, err=True),
        )
    verdict = judge(outcome, settings.gate)
    if report is not None:
        write_atomically(report, render_html(model, outcome, verdict, []))
    plain = {"outcome": outcome, "verdict": verdict}
    show(dict(plain), as_json=as_json, text=render_markdown(outcome, verdict))
    if not verdict.passed:
        raise typer.Exit(1)
