"""A run and its stages in one table, for the terminal and for programs."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from rich import box
from rich.console import Console
from rich.table import Table

from tasks.core.evaluation.figures import EvaluationOutcome
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.evaluation.numbers import number
from tasks.core.evaluation.summary import headline, notes, plain_figures
from tasks.core.home import home
from tasks.core.progress import duration, quantity
from tasks.core.recipe import Recipe
from tasks.core.training.result import StepDown
from tasks.stage_result import StageResult

HEADINGS = ("stage", "state", "time", "size", "memory taken", "result")
_NUMBERS = ("time", "size", "memory taken")
_STEPS = TypeAdapter(tuple[StepDown, ...])


@dataclass(frozen=True)
class RunSummary:
    """The stages of a run, and what was measured, if anything was."""

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


def report_page(recipe: Recipe) -> Path:
    """Return the path of the report page of a recipe's last run."""
    return home() / "reports" / f"{recipe.name}.html"


def log_directory(recipe: Recipe) -> Path:
    """Return the directory with the logs of a recipe's runs and stages."""
    return home() / "logs" / recipe.name


def outcome_line(run: RunSummary) -> str:
    """Return the outcome of a run in one line: what was built, the verdict, where the model is."""
    parts = [stages_done([stage.stage for stage in run.stages if not stage.cached])]
    if run.verdict is not None:
        parts.append(f"{headline(run.verdict)}.")
    for stage in run.stages:
        if stage.stage == "publish":
            tag = f" as {stage.facts['tag']}" if stage.facts.get("tag") else ""
            parts.append(f"Published{tag}: {published_at(run, stage)}.")
    if run.url is not None:
        parts.append(f"Served: {run.url}.")
    parts += [f"Warning: {warning}" for warning in run.warnings]
    return " ".join(parts)


def stages_done(done: Sequence[str]) -> str:
    """Return the first sentence about a run that has built the results of these stages."""
    return f"Done: {', '.join(done)}." if done else "Nothing new: every stage was cached."


def published_at(run: RunSummary, stage: StageResult) -> str:
    """Return where the model was published; the embedded Hub has an address only while it runs."""
    if run.recipe.hub == "embedded" and run.recipe.publish and run.recipe.publish.repo:
        return f"{run.recipe.publish.repo} on the Hub that `kawan-usaha hub` starts"
    return str(stage.facts["url"])


def steps_down(run: RunSummary) -> list[str]:
    """Return a line for each rung of the fine-tune that ran out of memory."""
    lines: list[str] = []
    for stage in run.stages:
        if stage.stage != "finetune":
            continue
        for step in _STEPS.validate_python(stage.facts.get("steps_down", [])):
            kept = f"step {step.kept_step}" if step.kept_step else "no step"
            lines.append(f"finetune, {step.rung}: {step.reason.value}; kept {kept}")
        if lines:
            lines.append(f"finetune, {stage.facts['rung']}: had enough memory")
    return lines


def rows(run: RunSummary) -> list[tuple[str, str, str, str, str, str]]:
    """Return a row for each stage, with a text for each of HEADINGS."""
    return [
        (
            stage.stage,
            "Cached" if stage.cached else "Completed",
            duration(stage.wall_s),
            quantity(stage.size_bytes),
            quantity(stage.peak_memory_bytes),
            str(stage.facts.get("tag") or stage.facts.get("url") or stage.artifact),
        )
        for stage in run.stages
    ]


def as_plain(run: RunSummary) -> dict[str, object]:
    """Return the run as plain values, for programs."""
    measured: dict[str, object] = {"outcome": None, "verdict": None}
    if run.outcome is not None and run.verdict is not None:
        measured = plain_figures(run.outcome, run.verdict)
    return {
        "recipe": run.recipe.name,
        "overrides": list(run.overrides),
        "stages": [stage.model_dump(mode="json") for stage in run.stages],
        **measured,
        "url": run.url,
        "warnings": list(run.warnings),
    }


def as_text(run: RunSummary) -> str:
    """Return the run as a table for the terminal, with what to do next."""
    lines = [_table(run), ""]
    if run.outcome is not None and run.verdict is not None:
        figures = [f"{f.role} {number(f.perplexity)}" for f in run.outcome.figures]
        lines += [
            f"Perplexity: {', '.join(figures)}",
            f"{headline(run.verdict)}: {'; '.join(run.verdict.reasons)}",
            *(f"Held-out data: {note}" for note in notes(run.outcome)),
            f"Report: {report_page(run.recipe)}",
        ]
    if run.overrides:
        lines.append(f"Overrides: {'; '.join(run.overrides)}")
    lines += [
        f"Signed with {stage.facts['signed_by']}; the signature was verified after publishing"
        for stage in run.stages
        if stage.stage == "publish" and stage.facts.get("signed_by")
    ]
    lines += steps_down(run)
    lines += [f"Warning: {warning}" for warning in run.warnings]
    lines.append(f"Logs: {log_directory(run.recipe)}")
    if run.url is not None:
        lines.append(f"Served: {run.url}; to talk to it: kawan-usaha chat {run.recipe.name}")
    return "\n".join(lines)


def _table(run: RunSummary) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    table = Table(box=box.SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
    for row in rows(run):
        table.add_row(*row)
    console.print(table)
    return console.export_text().rstrip()
