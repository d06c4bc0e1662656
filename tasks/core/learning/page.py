"""The page of one run of `learn`: HTML that stands alone, and the same as markdown. Pure text."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.core.evaluation import report
from tasks.core.evaluation.numbers import change, number
from tasks.core.learning.changes import TopicChange, in_words
from tasks.core.learning.lesson import Lesson, Material, Part

_TEMPLATE = "page.html.j2"


def render_html(lesson: Lesson) -> str:
    """Return the page. Every text of a model or a person is escaped."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(report.__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, words=in_words, change=_change)
    return environment.get_template(_TEMPLATE).render(
        lesson=lesson, material=material_words(lesson.material)
    )


def render_markdown(lesson: Lesson) -> str:
    """Return the decision, its reasons and the tables, for a Prefect artifact and the terminal."""
    lines = [f"**{lesson.headline}.**", "", *(f"- {reason}" for reason in lesson.reasons)]
    lines += ["", material_words(lesson.material)]
    for part in lesson.parts:
        lines += ["", f"**{part.title}**", "", in_words(part.changes), ""]
        lines += _table(part) if part.changes else []
        lines += [f"- {line}" for line in (*part.notes, *part.judgement)]
    return "\n".join(lines) + "\n"


def material_words(material: Material) -> str:
    """Return what was learned from, in one sentence."""
    return (
        f"Learned from {material.answers} reviewed answers, {material.new} of them new: "
        f"{material.conversations} conversations, {material.preferences} preferences, and "
        f"{material.held_out} conversations held out to be measured with."
    )


def _table(part: Part) -> list[str]:
    return [
        "| topic | conversations | release | new model | change |",
        "|---|---:|---:|---:|---|",
        *(
            f"| {each.topic} | {each.conversations} | {number(each.before)} "
            f"| {number(each.after)} | {each.change}, {_change(each)} |"
            for each in part.changes
        ),
        "",
    ]


def _change(each: TopicChange) -> str:
    return change(1.0, each.ratio)
