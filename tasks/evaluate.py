"""Evaluate: figures of every model of the chain, and the gate's verdict over the last."""

from collections.abc import Sequence
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from tasks.core.evaluation.evaluate import evaluate as measure
from tasks.core.evaluation.evaluate import measurement_identity, read_outcome
from tasks.core.evaluation.figures import Outcome, Role, Subject
from tasks.core.evaluation.gate import Verdict, judge
from tasks.core.evaluation.report import render_markdown
from tasks.core.keys import stage_key
from tasks.core.recipe import Evaluate
from tasks.core.store import Staging
from tasks.runtime import StageResult, build_stage, stage_task

VERSION = 1


@stage_task("evaluate")
def evaluate(
    chain: Sequence[tuple[Role, StageResult]], settings: Evaluate, template: str
) -> StageResult:
    """Measure each model against the one before it."""
    params = measurement_identity(settings, template)
    inputs: dict[str, str] = {role: model.digest for role, model in chain}
    subjects = [Subject(role=role, path=model.path) for role, model in chain]
    logger = get_run_logger()

    def write(staging: Staging) -> None:
        measure(subjects, settings, template=template, out=staging.path, on_line=logger.info)

    result = build_stage(stage_key("evaluate", VERSION, params, inputs), write, params, inputs)
    outcome, verdict = verdict_of(result.path, settings)
    create_markdown_artifact(
        render_markdown(outcome, verdict), key="evaluation", description="Figures and verdict"
    )
    return result


def verdict_of(artifact: Path, settings: Evaluate) -> tuple[Outcome, Verdict]:
    """Return the figures of an evaluation and what the recipe's gate says of them now."""
    outcome = read_outcome(artifact)
    return outcome, judge(outcome, settings.gate)
