"""The model card of a build, and the name that the build has by it.

For a build of a recipe, and for a model directory of which only the files are known. Equal builds
give equal cards, so that publishing twice changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.core.conversation.template.render import get_template
from tasks.core.evaluation.figures import EvaluationOutcome
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.files.digests import FileDigest
from tasks.core.hub.card.text import CardFacts, CardFile, render_card
from tasks.core.hub.publish.allow_list import choose_to_publish
from tasks.core.hub.publish.license import require_publishable
from tasks.core.hub.publish.origin import WeightsOrigin, origin_of
from tasks.core.keys import digest
from tasks.core.recipe import Publish, Recipe
from tasks.core.release.facts import (
    Trained,
    edited_parts,
    figures_of,
    how_to_rebuild,
    limits_of,
    lineage_of,
    recipe_yaml,
    step_from_hub,
    summary_of,
)
from tasks.core.store import Manifest
from tasks.core.store.manifest import require_manifest

_QUESTION = "Bagaimana cara menentukan harga jual kue buatan rumah?"
_ORIGIN_UNKNOWN = "Where it comes from was not recorded."
_BUILD_DIGITS = 16


@dataclass(frozen=True)
class BuiltStage:
    """One stage of the build, by the flow's word for it, and its artifact."""

    stage: str
    path: Path


@dataclass(frozen=True)
class BuildCard:
    """The card of a build, and the name that these files with this card have."""

    build: str
    text: str


def card_of_build(
    recipe: Recipe,
    target: Publish,
    stages: Sequence[BuiltStage],
    outcome: EvaluationOutcome,
    verdict: GateVerdict,
    *,
    signed_by: str | None = None,
) -> BuildCard:
    """Return card and name of the build whose last stage is the released model.

    signed_by is the fingerprint of the key that it will be signed with. A forced release says so
    among its limits, with the reason and the gate's findings.
    Raises RecipeError when the card would break a rule of the Hub or name a wrong licence.
    """
    manifests = {stage.stage: require_manifest(stage.path) for stage in stages}
    trained = _trained(stages, manifests)
    released, place = stages[-1], target.repo or target.target or ""
    sources = [stage.path for stage in stages if stage.stage in ("base", "delta")]
    origin = WeightsOrigin.of_all([origin_of(path) for path in sources])
    require_publishable(origin, target)
    facts = CardFacts(
        name=recipe.deploy.model_name if recipe.deploy else recipe.name,
        build="",
        place=place,
        summary=summary_of(recipe),
        language=target.language,
        license=target.license,
        lineage=lineage_of(recipe, manifests),
        template=recipe.template,
        prompt_example=_prompt(recipe.template),
        how_to_load=_how_to_load(released.path, place),
        how_to_rebuild=how_to_rebuild(trained),
        recipe_yaml=recipe_yaml(recipe),
        files=_card_files(released.path, manifests[released.stage].files),
        edits=edited_parts(manifests.get("edit")),
        training=trained.rows if trained else (),
        figures=figures_of(recipe, outcome),
        limits=limits_of(outcome, verdict),
        tags=("kawan-usaha",),
        source_names=origin.names,
        source_licenses=origin.licenses,
        signed_by=signed_by,
    )
    return _named(facts)


def card_of_directory(
    model: Path,
    files: Mapping[str, FileDigest],
    target: Publish,
    template: str,
    *,
    signed_by: str | None = None,
) -> BuildCard:
    """Return card and name for a model directory of which only the files are known.

    Raises RecipeError when they do not allow what the target asks for.
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
        lineage=[
            step_from_hub("base", repo.name, repo.commit or "not recorded") for repo in origin.repos
        ],
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


def _named(facts: CardFacts) -> BuildCard:
    build = digest({"card": render_card(facts)})[:_BUILD_DIGITS]
    return BuildCard(build, render_card(replace(facts, build=build)))


def _trained(stages: Sequence[BuiltStage], manifests: Mapping[str, Manifest]) -> Trained | None:
    artifact = next((stage.path for stage in stages if stage.stage == "finetune"), None)
    return None if artifact is None else Trained.of(artifact, manifests["finetune"])


def _how_to_load(model: Path, place: str) -> str:
    from tasks.core.architecture.card import loading_instructions  # takes seconds: it needs torch

    return loading_instructions(model, name=place)


def _prompt(template_name: str) -> str:
    template = get_template(template_name)
    template.append_message(template.roles[0], _QUESTION)
    template.append_message(template.roles[1], None)
    return str(template.get_prompt())


def _card_files(model: Path, files: Mapping[str, FileDigest]) -> list[CardFile]:
    return [
        CardFile(name, files[name].size_bytes, files[name].sha256)
        for name in choose_to_publish(model, files)
    ]
