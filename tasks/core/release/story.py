"""The story of a build: what the model card tells, gathered from recipe, manifests and figures.

The one place in core that knows several stages at once. It decides nothing and measures nothing;
equal builds give equal stories, so that publishing twice changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml
from pydantic import JsonValue, TypeAdapter

from tasks.core.architecture.proof.proof import EditProof
from tasks.core.conversation.template import get_template
from tasks.core.evaluation.figures import Outcome
from tasks.core.evaluation.gate import Verdict
from tasks.core.files.digests import FileDigest
from tasks.core.hub.card.text import (
    CardFacts,
    CardFile,
    EditedPart,
    Figure,
    LineageStep,
    render_card,
)
from tasks.core.hub.client import DEFAULT_ENDPOINT, endpoint
from tasks.core.hub.publish.license import require_publishable
from tasks.core.hub.publish.origin import Origin, Repo, origin_of
from tasks.core.hub.publish.selection import choose_to_publish
from tasks.core.keys import digest
from tasks.core.recipe import Publish, Recipe, Source
from tasks.core.recipe.data import DataSource, short_names
from tasks.core.store import Manifest
from tasks.core.store.manifest import require_manifest
from tasks.core.training.result import TRAINING, StepDown, read_summary

_QUESTION = "Bagaimana cara menentukan harga jual kue buatan rumah?"
_BUILD_DIGITS = 16


@dataclass(frozen=True)
class BuiltStage:
    """One stage of the build, by the word that the flow has for it, and its artifact."""

    stage: str
    path: Path


@dataclass(frozen=True)
class Story:
    """The card of a build, and the name that these files with this card have."""

    build: str
    card: str


def tell(
    recipe: Recipe,
    target: Publish,
    stages: Sequence[BuiltStage],
    outcome: Outcome,
    verdict: Verdict,
    *,
    signed_by: str | None = None,
) -> Story:
    """Return card and name of the build whose last stage is the released model.

    signed_by is the fingerprint of the key that it will be signed with. A release by force says so
    among its limits, with the reason and with what the gate found.
    Raises RecipeError when the card would break a rule of the Hub or name a wrong licence.
    """
    manifests = {stage.stage: require_manifest(stage.path) for stage in stages}
    trained = _trained(stages, manifests)
    released, place = stages[-1], target.repo or target.target or ""
    origin = Origin.of_all(
        [origin_of(stage.path) for stage in stages if stage.stage in ("base", "delta")]
    )
    require_publishable(origin, target)
    facts = CardFacts(
        name=recipe.deploy.model_name if recipe.deploy else recipe.name,
        build="",
        place=place,
        summary=_summary(recipe),
        language=target.language,
        license=target.license,
        lineage=_lineage(recipe, manifests),
        template=recipe.template,
        prompt_example=_prompt(recipe.template),
        how_to_load=_how_to_load(released.path, place),
        how_to_rebuild=_how_to_rebuild(trained),
        recipe_yaml=_recipe_yaml(recipe),
        files=_card_files(released.path, manifests[released.stage].files),
        edits=_edits(manifests.get("edit")),
        training=trained.rows if trained else (),
        figures=_figures(recipe, outcome),
        limits=_limits(outcome, verdict),
        tags=("kawan-usaha",),
        source_names=origin.names,
        source_licenses=origin.licenses,
        signed_by=signed_by,
    )
    return _named(facts)


def tell_of_directory(
    model: Path,
    files: Mapping[str, FileDigest],
    target: Publish,
    template: str,
    *,
    signed_by: str | None = None,
) -> Story:
    """Return card and name for a model directory of which nothing but its files is known.

    Raises RecipeError when these do not allow what the target asks for.
    """
    place = target.repo or target.target or ""
    origin = origin_of(model)
    require_publishable(origin, target)
    facts = CardFacts(
        name=place.rstrip("/").rsplit("/", 1)[-1],
        build="",
        place=place,
        summary="Published from a directory. "
        + ("Its files name what it was made from." if origin.repos else _ORIGIN_UNKNOWN),
        language=target.language,
        license=target.license,
        lineage=[_taken_from(repo) for repo in origin.repos],
        template=template,
        prompt_example=_prompt(template),
        how_to_load=_how_to_load(model, place),
        how_to_rebuild="It was not made from a recipe.",
        recipe_yaml="# none",
        files=_card_files(model, files),
        source_names=origin.names,
        source_licenses=origin.licenses,
        signed_by=signed_by,
    )
    return _named(facts)


def _how_to_load(model: Path, place: str) -> str:
    from tasks.core.architecture.card import loading_instructions  # takes seconds: it needs torch

    return loading_instructions(model, name=place)


def _named(facts: CardFacts) -> Story:
    build = digest({"card": render_card(facts)})[:_BUILD_DIGITS]
    return Story(build, render_card(replace(facts, build=build)))


def _summary(recipe: Recipe) -> str:
    done = [
        words
        for words, part in (
            (f"the delta {recipe.delta}", recipe.delta),
            ("an edit of its architecture", recipe.edit),
            ("LoRA fine-tuning", recipe.finetune),
        )
        if part is not None
    ]
    return f"An assistant for small businesses, made from {recipe.base}" + (
        f" with {' and '.join(done)}." if done else "."
    )


def _lineage(recipe: Recipe, manifests: dict[str, Manifest]) -> list[LineageStep]:
    steps = [_origin("base", recipe.base, manifests["base"])]
    if recipe.delta is not None:
        steps.append(_origin("delta", recipe.delta, manifests["delta"]))
    if recipe.edit is not None:
        steps.append(LineageStep("edit", "architecture edit", manifests["edit"].content_digest))
    if recipe.finetune is not None:
        how = "LoRA by DPO" if recipe.finetune.method == "dpo" else "LoRA"
        name = f"{how} on {short_names(recipe.finetune.data)}"
        steps.append(LineageStep("fine-tune", name, manifests["finetune"].content_digest))
    return steps


def _origin(role: Literal["base", "delta"], source: Source, manifest: Manifest) -> LineageStep:
    commit = manifest.params.get("commit") if isinstance(manifest.params, dict) else None
    if source.repo is None or not isinstance(commit, str):
        name = source.directory.name if source.directory else str(source)
        return LineageStep(role, name, manifest.content_digest)
    return _from_hub(role, source.repo, commit)


def _taken_from(repo: Repo) -> LineageStep:
    return _from_hub("base", repo.name, repo.commit or "not recorded")


def _from_hub(role: Literal["base", "delta"], repo: str, commit: str) -> LineageStep:
    # A Hub on this machine has another port every time: a link to it would make another card.
    link = f"{DEFAULT_ENDPOINT}/{repo}" if endpoint() == DEFAULT_ENDPOINT else None
    return LineageStep(role, repo, commit, repo=repo, link=link)


def _prompt(template_name: str) -> str:
    template = get_template(template_name)
    template.append_message(template.roles[0], _QUESTION)
    template.append_message(template.roles[1], None)
    return str(template.get_prompt())


def _recipe_yaml(recipe: Recipe) -> str:
    """Return what decides the model.

    Not where it is served, what stays, who signs it, or which address a judge has.
    """
    plain = recipe.model_dump(
        mode="json",
        exclude_none=True,
        exclude={
            "deploy": True,
            "keep": True,
            "evaluate": {"judge": True, "gate": {"min_judge_win_rate"}},
            **{part: {"signed_by"} for part in ("base", "delta", "publish")},
        },
    )
    plain["evaluate"] |= {
        name: Path(plain["evaluate"][name]).name
        for name in ("conversations", "prompts", "benchmark_tasks")
        if name in plain["evaluate"]
    }
    if recipe.finetune is not None:
        sources = [_told(each) for each in recipe.finetune.data]
        plain["finetune"]["data"] = sources if len(sources) > 1 else sources[0]
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _told(source: DataSource) -> JsonValue:
    """Return a source as a recipe names it, without the way to it on this machine."""
    told: dict[str, JsonValue] = source.model_dump(mode="json", exclude_defaults=True)
    path = source.file or source.directory
    if path is None:
        return told
    told["file" if source.file else "directory"] = path.name
    return path.name if told.keys() == {"file"} else told


def _card_files(model: Path, files: Mapping[str, FileDigest]) -> list[CardFile]:
    return [
        CardFile(name, files[name].size_bytes, files[name].sha256)
        for name in choose_to_publish(model, files)
    ]


def _edits(manifest: Manifest | None) -> list[EditedPart]:
    if manifest is None:
        return []
    proof = EditProof.model_validate(manifest.facts["proof"])
    parts = [
        EditedPart(f"activation of layer {row.layer}", row.before, row.after)
        for row in proof.layers
        if row.before != row.after
    ]
    before, after = proof.context_tokens_before, proof.context_tokens_after
    if before != after:
        parts.append(EditedPart("context", f"{before} tokens", f"{after} tokens"))
    return parts


@dataclass(frozen=True)
class _Trained:
    """How the adapter was trained: on which rung of the ladder, with its settings."""

    rung: str
    device: str
    rows: Sequence[tuple[str, str]]


def _trained(stages: Sequence[BuiltStage], manifests: dict[str, Manifest]) -> _Trained | None:
    """Return what the fine-tune has left of itself, not what the recipe asked for."""
    artifact = next((stage.path for stage in stages if stage.stage == "finetune"), None)
    if artifact is None:
        return None
    # Not read as a recipe's settings: those may have other fields by now than when it was trained.
    summary = read_summary(artifact / TRAINING)
    facts = manifests["finetune"].facts
    steps_down = TypeAdapter(list[StepDown]).validate_python(facts.get("steps_down") or [])
    rung = str(facts.get("rung", "as asked"))
    rows: dict[str, JsonValue] = {"rung": rung}
    if steps_down:
        rows["stepped over"] = "; ".join(f"{s.rung} ({s.reason.value})" for s in steps_down)
    lora = summary.lora
    others = {name: value for name, value in summary.settings.items() if name != "lora"}
    rows |= {f"lora.{name}": value for name, value in lora.items()} | others
    given = tuple((name, str(value)) for name, value in rows.items() if value is not None)
    return _Trained(rung, summary.device, given)


def _figures(recipe: Recipe, outcome: Outcome) -> list[Figure]:
    released = outcome.figures[-1]
    data = {"data_id": "kawan-usaha/held-out", "data_name": recipe.evaluate.conversations.name}
    return [
        Figure("perplexity", "perplexity a token", round(released.perplexity, 4), **data),
        Figure(
            "byte_perplexity", "perplexity a byte", round(released.perplexity_per_byte, 4), **data
        ),
    ]


def _limits(outcome: Outcome, verdict: Verdict) -> list[str]:
    limits = [f"{outcome.leaks}."] if outcome.leaks and outcome.leaks.count else []
    if verdict.forced is None:
        return limits
    found = "; ".join(verdict.reasons)
    return [
        *limits,
        f"It does not keep its own limits ({found}). Released all the same: {verdict.forced}.",
    ]


_ORIGIN_UNKNOWN = "Where it comes from was not recorded."


def _how_to_rebuild(trained: _Trained | None) -> str:
    how = (
        "Save the recipe above as `recipe.yaml` and run `kawan-usaha rebuild recipe.yaml` with the "
        "project kawan-usaha-llm. The same recipe and the same commits give the files above, to "
        "the bit"
    )
    if trained is None:
        return f"{how}."
    gpu = "; on a GPU even there only nearly, as its sums vary" if trained.device == "cuda" else ""
    return (
        f"{how}, up to the fine-tune. The adapter is the same only where it is trained on the same "
        f"rung of the ladder ({trained.rung}), on the same kind of machine and with the same "
        f"versions of the libraries{gpu}. Which rung is taken depends on the memory of the machine."
    )
