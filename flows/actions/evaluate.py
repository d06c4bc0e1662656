"""Measure a model, alone or against another one, and print its figures with a verdict."""

from contextlib import ExitStack
from pathlib import Path

from flows.actions.local_models import local_model
from flows.command_line.output import command_log, show, showing_progress
from tasks.core.conversation.checking.leaks import Overlap, find_leaks
from tasks.core.conversation.template.render import get_template
from tasks.core.evaluation.evaluate import evaluate_models, measurement_identity
from tasks.core.evaluation.figures import EvaluationOutcome, Role, subjects_of
from tasks.core.evaluation.gate import apply_gate
from tasks.core.evaluation.report import report_html
from tasks.core.evaluation.summary import plain_figures, summary_markdown
from tasks.core.files.durable import write_atomically
from tasks.core.files.given import at_rest
from tasks.core.files.temporary import scratch_directory
from tasks.core.model.template_record import DEFAULT_TEMPLATE, template_for
from tasks.core.recipe import Evaluate, Gate


def measure(
    model: str,
    settings: Evaluate,
    *,
    against: str | None,
    template: str | None,
    training_data: Path | None,
) -> EvaluationOutcome:
    """Return the figures of the model, and of the one to compare with."""
    with ExitStack() as stack:
        settings = settings.model_copy(
            update={
                "conversations": stack.enter_context(at_rest(settings.conversations)),
                "prompts": stack.enter_context(at_rest(settings.prompts)),
            }
        )
        # Report what is missing before a model is downloaded.
        get_template(template or DEFAULT_TEMPLATE)
        measurement_identity(settings, template or DEFAULT_TEMPLATE)
        overlap = _overlap(training_data, settings, stack)
        models: list[tuple[Role, Path]] = [("model", stack.enter_context(local_model(model)))]
        if against is not None:
            other = stack.enter_context(local_model(against))
            if not other.samefile(models[0][1]):  # the gate reports that it does not apply
                models.insert(0, ("against", other))
        template = template_for(models[-1][1], template)
        out = stack.enter_context(scratch_directory("evaluate"))
        _, show_line = stack.enter_context(showing_progress("evaluate"))
        return evaluate_models(
            subjects_of([(role, path.absolute()) for role, path in models]),
            settings,
            template=template,
            out=out,
            overlap=overlap,
            on_line=show_line,
            log=command_log("evaluate"),
        )


def show_measured(
    model: str, outcome: EvaluationOutcome, gate: Gate, *, report: Path | None, as_json: bool
) -> bool:
    """Print the figures, write the report page, and return whether every limit is kept."""
    verdict = apply_gate(outcome, gate)
    if report is not None:
        write_atomically(report, report_html(model, outcome, verdict))
    text = summary_markdown(outcome, verdict)
    show(plain_figures(outcome, verdict), as_json=as_json, text=text)
    return verdict.passed


def _overlap(training: Path | None, settings: Evaluate, stack: ExitStack) -> Overlap | None:
    """Return which held-out conversations stand in the training data, if that is given."""
    if training is None:
        return None
    return find_leaks(stack.enter_context(at_rest(training)), settings.conversations)
