"""What the model card of a recipe's build says, gathered from recipe, manifests and figures.

Here core knows several stages at once. Nothing is decided or measured; equal builds give equal
facts, so that publishing twice changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import JsonValue, TypeAdapter

from tasks.core.architecture.proof.edit_proof import EditProof
from tasks.core.evaluation.figures import EvaluationOutcome
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.hub.card.text import EditedPart, Figure, LineageStep
from tasks.core.hub.client import DEFAULT_ENDPOINT, endpoint
from tasks.core.recipe import Recipe, Source
from tasks.core.recipe.data import DataSource, short_names
from tasks.core.store import Manifest
from tasks.core.training.result import TRAINING, StepDown, read_summary


def summary_of(recipe: Recipe) -> str:
    """Return in a sentence what the model was made from, and how."""
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


def lineage_of(recipe: Recipe, manifests: Mapping[str, Manifest]) -> list[LineageStep]:
    """Return what the model is made of and what was done to it; manifests are by stage."""
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
    return step_from_hub(role, source.repo, commit)


def step_from_hub(role: Literal["base", "delta"], repo: str, commit: str) -> LineageStep:
    """Return a repository as a step. It has a link only where it is on huggingface.co."""
    # An embedded Hub has another port every time: a link to it would change the card.
    link = f"{DEFAULT_ENDPOINT}/{repo}" if endpoint() == DEFAULT_ENDPOINT else None
    return LineageStep(role, repo, commit, repo=repo, link=link)


def recipe_yaml(recipe: Recipe) -> str:
    """Return the parts of the recipe that decide the model.

    Left out are where it is served, what is kept, who signs it and the address of a judge.
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
        sources = [_portable(each) for each in recipe.finetune.data]
        plain["finetune"]["data"] = sources if len(sources) > 1 else sources[0]
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _portable(source: DataSource) -> JsonValue:
    """Return a data source as a recipe names it, without its path on this machine."""
    plain: dict[str, JsonValue] = source.model_dump(mode="json", exclude_defaults=True)
    path = source.file or source.directory
    if path is None:
        return plain
    plain["file" if source.file else "directory"] = path.name
    return path.name if plain.keys() == {"file"} else plain


def edited_parts(manifest: Manifest | None) -> list[EditedPart]:
    """Return where the architecture differs from the base's, by the manifest of the edit."""
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
class Trained:
    """How the adapter was trained: on which rung of the ladder, with which settings."""

    rung: str
    device: str
    rows: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, artifact: Path, manifest: Manifest) -> "Trained":
        """Return what the fine-tune's artifact records, not what the recipe asked for."""
        # Not read as a recipe's settings, whose fields may have changed since the training.
        summary = read_summary(artifact / TRAINING)
        facts = manifest.facts
        steps_down = TypeAdapter(list[StepDown]).validate_python(facts.get("steps_down") or [])
        rung = str(facts.get("rung", "as asked"))
        rows: dict[str, JsonValue] = {"rung": rung}
        if steps_down:
            rows["stepped over"] = "; ".join(f"{s.rung} ({s.reason.value})" for s in steps_down)
        rows |= {f"lora.{name}": value for name, value in summary.lora.items()}
        rows |= {name: value for name, value in summary.settings.items() if name != "lora"}
        given = tuple((name, str(value)) for name, value in rows.items() if value is not None)
        return cls(rung, summary.device, given)


def figures_of(recipe: Recipe, outcome: EvaluationOutcome) -> list[Figure]:
    """Return the figures of the released model."""
    released = outcome.figures[-1]
    data = {"data_id": "kawan-usaha/held-out", "data_name": recipe.evaluate.conversations.name}
    return [
        Figure("perplexity", "perplexity a token", round(released.perplexity, 4), **data),
        Figure(
            "byte_perplexity", "perplexity a byte", round(released.perplexity_per_byte, 4), **data
        ),
    ]


def limits_of(outcome: EvaluationOutcome, verdict: GateVerdict) -> list[str]:
    """Return what a reader must know: leaked test data, and a release against the gate."""
    limits = [f"{outcome.leaks}."] if outcome.leaks and outcome.leaks.count else []
    if verdict.forced is None:
        return limits
    found = "; ".join(verdict.reasons)
    return [
        *limits,
        f"It does not keep its own limits ({found}). Released all the same: {verdict.forced}.",
    ]


def how_to_rebuild(trained: Trained | None) -> str:
    """Return how to make the model again, and how far the result is the same."""
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
