"""The model card: what a published model is, where it comes from, and how to use and rebuild it.

Pure: facts in, the text of README.md out, made with huggingface_hub's card classes. It reads
neither the store nor a Hub; `rules.py` checks the metadata against the Hub's rules.
Invariant: equal facts give equal text, so that a card never makes a second publish differ.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tasks.core.hub.card.rules import require_valid_card
from tasks.core.hub.publish.license import Terms, non_commercial_terms, require_honest_license

_TEMPLATE = Path(__file__).with_name("template.md")


@dataclass(frozen=True)
class LineageStep:
    """One model that this one was made from, or one change that was made to it."""

    role: Literal["base", "delta", "edit", "fine-tune"]
    name: str
    identity: str
    """A commit of `repo`, or the digest of an artifact."""
    repo: str | None = None
    """The Hub repository that it came from, None for anything else."""
    link: str | None = None
    """The web address of it."""


@dataclass(frozen=True)
class EditedPart:
    """One place where the architecture differs from the base's."""

    place: str
    before: str
    after: str


@dataclass(frozen=True)
class Figure:
    """One measured number, in the terms of the Hub's metadata."""

    metric: str
    name: str
    value: float
    data_id: str
    data_name: str
    data_digest: str | None = None


@dataclass(frozen=True)
class CardFile:
    """A published file and what it must hash to."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class CardFacts:
    """Everything that the card says, as plain values.

    prompt_example is a whole prompt rendered with the template; how_to_load and how_to_rebuild are
    Markdown; training holds rows of (what, value) and limits one sentence each. `place` is where
    the model is published: a repository's name, or the URL of a directory. source_names and
    source_licenses are what `origin_of` found behind the lineage; they decide the licence.
    """

    name: str
    build: str
    place: str
    summary: str
    language: str
    license: str
    lineage: Sequence[LineageStep]
    template: str
    prompt_example: str
    how_to_load: str
    how_to_rebuild: str
    recipe_yaml: str
    files: Sequence[CardFile]
    edits: Sequence[EditedPart] = ()
    training: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    limits: Sequence[str] = ()
    tags: Sequence[str] = ()
    source_names: Sequence[str] = ()
    source_licenses: Sequence[str] = ()
    signed_by: str | None = None
    """The fingerprint of the key whose signature lies beside the files; None without one."""


def render_card(facts: CardFacts) -> str:
    """Return the text of README.md.

    Raises RecipeError when the metadata would break one of the Hub's rules, or would name a
    licence that the weights do not have.
    """
    terms = non_commercial_terms(
        [
            *(name for step in facts.lineage for name in (step.repo, step.name) if name),
            *facts.source_names,
        ],
        [*facts.source_licenses, facts.license],
    )
    require_honest_license(terms, facts.license)
    card = ModelCard.from_template(
        _metadata(facts, terms),
        template_str=_TEMPLATE.read_text(encoding="utf-8"),
        facts=facts,
        consequence=terms.consequence if terms else None,
        lineage_table=_lineage_table(facts.lineage),
        edit_table=_table(
            ("Where", "In the base", "Here"), [(e.place, e.before, e.after) for e in facts.edits]
        ),
        training_table=_table(("Training", "Value"), facts.training),
        figure_table=_figure_table(facts.figures),
        file_table=_table(
            ("File", "Bytes", "SHA-256"),
            [(f"`{f.name}`", str(f.size_bytes), f"`{f.sha256}`") for f in facts.files],
        ),
        prompt=_fenced(facts.prompt_example, "text"),
        recipe=_fenced(facts.recipe_yaml, "yaml"),
    )
    text = str(card).rstrip() + "\n"
    require_valid_card(text)
    return text


def _metadata(facts: CardFacts, terms: Terms | None) -> ModelCardData:
    named = terms if facts.license == "other" else None
    return ModelCardData(
        language=facts.language,
        license=facts.license,
        license_name=named.license_name if named else None,
        license_link=named.license_link if named else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=_unique(s.repo for s in facts.lineage if s.repo) or None,
        tags=_unique(["conversational", *facts.tags]),
        metrics=_unique(figure.metric for figure in facts.figures) or None,
        model_name=facts.name,
        eval_results=[_eval_result(figure) for figure in facts.figures] or None,
    )


def _eval_result(figure: Figure) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        dataset_type=figure.data_id,
        dataset_name=figure.data_name,
        dataset_revision=figure.data_digest,
        metric_type=figure.metric,
        metric_name=figure.name,
        metric_value=figure.value,
    )


def _lineage_table(lineage: Iterable[LineageStep]) -> str:
    def named(step: LineageStep) -> str:
        return f"[{step.name}]({step.link})" if step.link else step.name

    return _table(
        ("Step", "What", "Commit or digest"),
        [(step.role, named(step), f"`{step.identity}`") for step in lineage],
    )


def _figure_table(figures: Sequence[Figure]) -> str:
    def data(figure: Figure) -> str:
        digest = f" (`{figure.data_digest}`)" if figure.data_digest else ""
        return figure.data_name + digest

    return _table(
        ("Figure", "Value", "Measured on"),
        [(figure.name, f"{figure.value:.6g}", data(figure)) for figure in figures],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, empty text without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _fenced(text: str, language: str) -> str:
    """Return text as a code block whose fence is longer than any inside it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
