"""The whole run in one table: for the terminal, for Prefect's UI, and as a page to keep."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter
from rich import box
from rich.console import Console
from rich.table import Table

from tasks.core.evaluation.figures import EvaluationOutcome
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.evaluation.numbers import number
from tasks.core.evaluation.report import LineageRow, report_html
from tasks.core.evaluation.summary import headline, notes, plain_figures, summary_markdown
from tasks.core.files.durable import write_atomically
from tasks.core.home import home
from tasks.core.progress import duration, quantity
from tasks.core.recipe import Recipe
from tasks.core.store.manifest import kept_file
from tasks.core.training.result import TRAINING, StepDown, read_summary
from tasks.runtime import StageResult
from tasks.telling import as_code, flush, show_markdown

_STEPS = TypeAdapter(tuple[StepDown, ...])


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild did."""

    recipe: Recipe
    stages: tuple[StageResult, ...]
    outcome: EvaluationOutcome | None = None
    verdict: GateVerdict | None = None
    overrides: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def url(self) -> str | None:
        """The address of the deployment, if the recipe has one."""
        return next((str(s.facts["url"]) for s in self.stages if s.stage == "deploy"), None)


def summary(report: RebuildReport) -> str:
    """Return in one line what came of the run: the verdict, and where the model is."""
    parts = [done_words([stage.stage for stage in report.stages if not stage.cached])]
    if report.verdict is not None:
        parts.append(f"{headline(report.verdict)}.")
    for stage in report.stages:
        if stage.stage == "publish":
            tag = f" as {stage.facts['tag']}" if stage.facts.get("tag") else ""
            parts.append(f"Published{tag}: {_published_at(report, stage)}.")
    if report.url is not None:
        parts.append(f"Served: {report.url}.")
    parts += [f"Warning: {warning}" for warning in report.warnings]
    return " ".join(parts)


def done_words(done: Sequence[str]) -> str:
    """Return the first sentence about a run that has made these stages' results."""
    return f"Done: {', '.join(done)}." if done else "Nothing new: every stage was cached."


def _published_at(report: RebuildReport, stage: StageResult) -> str:
    """Return where the model was published; the embedded Hub has an address only while it runs."""
    if report.recipe.hub == "embedded" and report.recipe.publish and report.recipe.publish.repo:
        return f"{report.recipe.publish.repo} on the Hub that `kawan-usaha hub` starts"
    return str(stage.facts["url"])


def _linked(report: RebuildReport, row: tuple[str, ...], stage: StageResult) -> tuple[str, ...]:
    """Return the row of a stage with a link to what is published, where it has an address."""
    if stage.stage != "publish" or not _published_at(report, stage).startswith("http"):
        return row
    return (*row[:-1], f"[{row[-1]}]({stage.facts['url']})")


def steps_down(report: RebuildReport) -> list[str]:
    """Return a line for each rung of the fine-tune that memory did not suffice for."""
    lines: list[str] = []
    for stage in report.stages:
        if stage.stage != "finetune":
            continue
        for step in _STEPS.validate_python(stage.facts.get("steps_down", [])):
            kept = f"step {step.kept_step}" if step.kept_step else "no step"
            lines.append(f"finetune, {step.rung}: {step.reason.value}; kept {kept}")
        if lines:
            lines.append(f"finetune, {stage.facts['rung']}: had enough memory")
    return lines


def rows(report: RebuildReport) -> list[tuple[str, str, str, str, str, str]]:
    """Return one text for each of HEADINGS, of every stage."""
    return [
        (
            stage.stage,
            "Cached" if stage.cached else "Completed",
            duration(stage.wall_s),
            quantity(stage.size_bytes),
            quantity(stage.peak_memory_bytes),
            str(stage.facts.get("tag") or stage.facts.get("url") or stage.artifact),
        )
        for stage in report.stages
    ]


def as_plain(report: RebuildReport) -> dict[str, object]:
    """Return the run as plain values, for programs."""
    measured: dict[str, object] = {"outcome": None, "verdict": None}
    if report.outcome is not None and report.verdict is not None:
        measured = plain_figures(report.outcome, report.verdict)
    return {
        "recipe": report.recipe.name,
        "overrides": list(report.overrides),
        "stages": [stage.model_dump(mode="json") for stage in report.stages],
        **measured,
        "url": report.url,
        "warnings": list(report.warnings),
    }


def as_text(report: RebuildReport) -> str:
    """Return the run as a table for the terminal, with what to do next."""
    console = Console(width=140, record=True, file=io.StringIO())
    table = Table(box=box.SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
    for row in rows(report):
        table.add_row(*row)
    console.print(table)
    lines = [console.export_text().rstrip(), ""]
    if report.outcome is not None and report.verdict is not None:
        figures = [f"{f.role} {number(f.perplexity)}" for f in report.outcome.figures]
        lines += [
            f"Perplexity: {', '.join(figures)}",
            f"{headline(report.verdict)}: {'; '.join(report.verdict.reasons)}",
            *(f"Held-out data: {note}" for note in notes(report.outcome)),
            f"Report: {page_of(report.recipe)}",
        ]
    if report.overrides:
        lines.append(f"Overrides: {'; '.join(report.overrides)}")
    lines += [
        f"Signed, and checked where it was published, with {stage.facts['signed_by']}"
        for stage in report.stages
        if stage.stage == "publish" and stage.facts.get("signed_by")
    ]
    lines += steps_down(report)
    lines += [f"Warning: {warning}" for warning in report.warnings]
    lines.append(f"Logs: {logs_of(report.recipe)}")
    if report.url is not None:
        lines.append(f"Served: {report.url}; talk with it: kawan-usaha chat {report.recipe.name}")
    return "\n".join(lines)


def page_of(recipe: Recipe) -> Path:
    """Return where the report page of a recipe's last run is."""
    return home() / "reports" / f"{recipe.name}.html"


def logs_of(recipe: Recipe) -> Path:
    """Return where the logs of a recipe's runs and stages are."""
    return home() / "logs" / recipe.name


_NUMBERS = ("time", "size", "memory taken")
HEADINGS = ("stage", "state", "time", "size", "memory taken", "result")
_NOTE = (
    "Memory is what a stage took at its peak, child processes included, on top of what the "
    "process of the run held before it. Time and memory of a cached stage are those of the run "
    "that made it."
)


def publish_report(report: RebuildReport) -> None:
    """Show the run as a markdown artifact of Prefect, and write its page."""
    lines = [f"# {report.recipe.name}", ""]
    if report.overrides:
        lines += [f"Overrides of this run: {as_code(report.overrides)}", ""]
    lines.append(f"| {' | '.join(HEADINGS)} |")
    lines += ["|---|---|---:|---:|---:|---|"]
    for row, stage in zip(rows(report), report.stages, strict=True):
        lines.append(f"| {' | '.join(_linked(report, row, stage))} |")
    lines += ["", *(f"**Warning:** {warning}\n" for warning in report.warnings)]
    lines += [f"- {line}" for line in steps_down(report)]
    lines += ["", _NOTE, "", f"What the programs of the stages printed: `{logs_of(report.recipe)}`"]
    lines.append("")
    if report.outcome is not None and report.verdict is not None:
        lines.append(summary_markdown(report.outcome, report.verdict))
        _write_page(report, report.outcome, report.verdict)
    show_markdown("\n".join(lines), key="rebuild", description=f"Run of {report.recipe.name}")
    flush()


def _write_page(report: RebuildReport, outcome: EvaluationOutcome, verdict: GateVerdict) -> None:
    lineage = [
        LineageRow(
            stage=stage.stage,
            source=_source(report.recipe, stage),
            digest=stage.digest,
            wall_s=stage.wall_s,
            peak_memory_bytes=stage.peak_memory_bytes,
            cached=stage.cached,
        )
        for stage in report.stages
    ]
    page = page_of(report.recipe)
    page.parent.mkdir(parents=True, exist_ok=True)
    html = report_html(
        report.recipe.name,
        outcome,
        verdict,
        lineage,
        losses=_losses(report, "steps"),
        validation=_losses(report, "validation"),
    )
    write_atomically(page, html)


def _losses(report: RebuildReport, of: Literal["steps", "validation"]) -> list[tuple[int, float]]:
    """Return the steps of the fine-tune with their losses, if there was one: logged or validated.

    Without those whose loss is not a finite number. None where another machine trained, and what it
    wrote of the training is too large to be brought here for its sake.
    """
    for stage in report.stages:
        if stage.stage == "finetune" and (path := kept_file(stage.path, TRAINING)) is not None:
            summary = read_summary(path)
            seen = summary.steps if of == "steps" else summary.validation
            return [(step.step, step.loss) for step in seen if step.loss is not None]
    return []


def _source(recipe: Recipe, stage: StageResult) -> str:
    sources = {"base": recipe.base, "delta": recipe.delta}
    return str(sources.get(stage.stage) or stage.facts.get("url") or stage.artifact)
