"""The summary of a run as an artifact of Prefect's, and its report page in HTML."""

from typing import Literal

from flows.rebuild.run_summary import (
    HEADINGS,
    RunSummary,
    log_directory,
    published_at,
    report_page,
    rows,
    steps_down,
)
from tasks.core.evaluation.figures import EvaluationOutcome
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.evaluation.report import LineageRow, report_html
from tasks.core.evaluation.summary import summary_markdown
from tasks.core.files.durable import write_atomically
from tasks.core.recipe import Recipe
from tasks.core.store.manifest import kept_file
from tasks.core.training.result import TRAINING, read_summary
from tasks.outbox import as_code, flush, show_markdown
from tasks.stage_result import StageResult

_NOTE = (
    "Memory is the peak of a stage, child processes included, above what the process of the run "
    "held before it. Time and memory of a cached stage are those of the run that built it."
)


def publish_summary(run: RunSummary) -> RunSummary:
    """Show the run as a markdown artifact of Prefect's, write its report page, and return it."""
    lines = [f"# {run.recipe.name}", ""]
    if run.overrides:
        lines += [f"Overrides of this run: {as_code(run.overrides)}", ""]
    lines.append(f"| {' | '.join(HEADINGS)} |")
    lines += ["|---|---|---:|---:|---:|---|"]
    for row, stage in zip(rows(run), run.stages, strict=True):
        lines.append(f"| {' | '.join(_linked(run, row, stage))} |")
    lines += ["", *(f"**Warning:** {warning}\n" for warning in run.warnings)]
    lines += [f"- {line}" for line in steps_down(run)]
    lines += ["", _NOTE, "", f"Output of the stages' programs: `{log_directory(run.recipe)}`", ""]
    if run.outcome is not None and run.verdict is not None:
        lines.append(summary_markdown(run.outcome, run.verdict))
        _write_page(run, run.outcome, run.verdict)
    show_markdown("\n".join(lines), key="rebuild", description=f"Run of {run.recipe.name}")
    flush()
    return run


def _linked(run: RunSummary, row: tuple[str, ...], stage: StageResult) -> tuple[str, ...]:
    """Return the row of a stage with a link to what is published, where it has an address."""
    if stage.stage != "publish" or not published_at(run, stage).startswith("http"):
        return row
    return (*row[:-1], f"[{row[-1]}]({stage.facts['url']})")


def _write_page(run: RunSummary, outcome: EvaluationOutcome, verdict: GateVerdict) -> None:
    lineage = [
        LineageRow(
            stage=stage.stage,
            source=_source(run.recipe, stage),
            digest=stage.digest,
            wall_s=stage.wall_s,
            peak_memory_bytes=stage.peak_memory_bytes,
            cached=stage.cached,
        )
        for stage in run.stages
    ]
    page = report_page(run.recipe)
    page.parent.mkdir(parents=True, exist_ok=True)
    html = report_html(
        run.recipe.name,
        outcome,
        verdict,
        lineage,
        losses=_losses(run, "steps"),
        validation=_losses(run, "validation"),
    )
    write_atomically(page, html)


def _losses(run: RunSummary, of: Literal["steps", "validation"]) -> list[tuple[int, float]]:
    """Return the steps of the fine-tune with their logged or validation losses.

    Left out are losses that are not finite. Empty if nothing was trained, or on another machine
    whose record is too large to be fetched for this page.
    """
    for stage in run.stages:
        if stage.stage == "finetune" and (path := kept_file(stage.path, TRAINING)) is not None:
            summary = read_summary(path)
            seen = summary.steps if of == "steps" else summary.validation
            return [(step.step, step.loss) for step in seen if step.loss is not None]
    return []


def _source(recipe: Recipe, stage: StageResult) -> str:
    sources = {"base": recipe.base, "delta": recipe.delta}
    return str(sources.get(stage.stage) or stage.facts.get("url") or stage.artifact)
