"""Publish: the released model with its card, all of it or nothing."""

from collections.abc import Sequence

from tasks.core.evaluation.figures import EvaluationOutcome
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.hub.publish.publication import Publication
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.hub.publish.to_filesystem import publish_to_filesystem
from tasks.core.hub.publish.to_hub.protocol import publish_to_hub
from tasks.core.recipe import Publish, Recipe
from tasks.core.release.build_card import BuiltStage, card_of_build
from tasks.core.signing import key_of
from tasks.core.store.manifest import require_manifest
from tasks.core.system.measure import measured
from tasks.progress import StageProgress, log_line
from tasks.runtime import run_store, stage_task
from tasks.stage_result import StageResult


def _name(target: Publish, **_: object) -> str:
    return f"to {target.repo or target.target}"


@stage_task("publish", _name)
def publish(
    stages: Sequence[StageResult],
    recipe: Recipe,
    target: Publish,
    outcome: EvaluationOutcome,
    verdict: GateVerdict,
) -> StageResult:
    """Publish the model of the last stage; send nothing when this build is there already."""
    released = stages[-1]
    built = [BuiltStage(stage.stage, stage.path) for stage in stages]
    send = publish_to_hub if target.repo else publish_to_filesystem
    key = None if target.signed_by is None else key_of(target.signed_by)
    # Only the training's artifact says what the card needs; another machine may have trained.
    read = [released.artifact, *(each.artifact for each in stages if each.stage == "finetune")]
    with run_store().present(read), measured() as cost:
        signed_by = None if key is None else key.fingerprint
        card = card_of_build(recipe, target, built, outcome, verdict, signed_by=signed_by)
        files = require_manifest(released.path).files
        publication = Publication(released.path, files, card.text, card.build, key)
        receipt = send(publication, target, on_progress=StageProgress("publish"))
    for remark in receipt.remarks():
        log_line(remark)
    return StageResult.after(
        released,
        "publish",
        cost,
        cached=not receipt.sent,
        url=receipt.url,
        commit=receipt.commit,
        tag=receipt.tag,
        kept=list(receipt.kept),
        **_signed(receipt),
    )


def signature_of(published: StageResult) -> dict[str, str]:
    """Return the signer and the digest of the published signature; nothing where there is none."""
    given = {name: published.facts.get(name) for name in ("signed_by", "signature_sha256")}
    return {name: str(value) for name, value in given.items() if value is not None}


def _signed(receipt: Receipt) -> dict[str, str]:
    signature = receipt.signature
    if signature is None:
        return {}
    return {"signed_by": signature.signed_by, "signature_sha256": signature.sha256}
