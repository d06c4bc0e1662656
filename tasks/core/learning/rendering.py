"""The report of a run of `learn` as a self-contained HTML page and as Markdown. Pure text."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.core.evaluation import report as evaluation_report
from tasks.core.evaluation.numbers import change, number
from tasks.core.learning.changes import TopicChange, in_words
from tasks.core.learning.report import LearningReport, ReportSection, ReviewedCounts

_TEMPLATE = "page.html.j2"


def render_html(report: LearningReport) -> str:
    """Return the page. All texts of models and people are escaped."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(evaluation_report.__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, words=in_words, change=_change)
    return environment.get_template(_TEMPLATE).render(
        report=report, counts=counts_in_words(report.counts)
    )


def render_markdown(report: LearningReport) -> str:
    """Return the decision, its reasons and the tables, for a Prefect artifact and the terminal."""
    lines = [f"**{report.headline}.**", "", *(f"- {reason}" for reason in report.reasons)]
    lines += ["", counts_in_words(report.counts)]
    for section in report.sections:
        lines += ["", f"**{section.title}**", "", in_words(section.changes), ""]
        lines += _table(section) if section.changes else []
        lines += [f"- {line}" for line in (*section.notes, *section.judgement)]
    return "\n".join(lines) + "\n"


def counts_in_words(counts: ReviewedCounts) -> str:
    """Return the contents of the reviewed set in one sentence."""
    return (
        f"Learned from {counts.answers} reviewed answers, {counts.new} of them new: "
        f"{counts.conversations} conversations, {counts.preferences} preferences, and "
        f"{counts.held_out} conversations held out for measuring."
    )


def _table(section: ReportSection) -> list[str]:
    return [
        "| topic | conversations | release | new model | change |",
        "|---|---:|---:|---:|---|",
        *(
            f"| {each.topic} | {each.conversations} | {number(each.before)} "
            f"| {number(each.after)} | {each.change}, {_change(each)} |"
            for each in section.changes
        ),
        "",
    ]


def _change(each: TopicChange) -> str:
    return change(1.0, each.ratio)
