"""Publish: the released model with its story, all of it or nothing."""

from collections.abc import Sequence

from tasks.core.evaluation.figures import Outcome
from tasks.core.evaluation.gate import Verdict
from tasks.core.hub.publish import publish as to_hub
from tasks.core.hub.publish_filesystem import publish_to_filesystem
from tasks.core.measure import measured
from tasks.core.recipe import Publish, Recipe
from tasks.core.store.manifest import require_manifest
from tasks.core.story import BuiltStage, tell
from tasks.progress import StageProgress, say
from tasks.runtime import StageResult, run_store, stage_task


def _name(target: Publish, **_: object) -> str:
    return f"to {target.repo or target.target}"


@stage_task("publish", _name)
def publish(
    stages: Sequence[StageResult],
    recipe: Recipe,
    target: Publish,
    outcome: Outcome,
    verdict: Verdict,
) -> StageResult:
    """Publish the model of the last stage; nothing is sent when this build stands there already."""
    released = stages[-1]
    built = [BuiltStage(stage.stage, stage.path) for stage in stages]
    send = to_hub if target.repo else publish_to_filesystem
    # The card tells of the training what only its artifact says; another machine may have trained.
    read = [released.artifact, *(each.artifact for each in stages if each.stage == "finetune")]
    with run_store().present(read), measured() as cost:
        story = tell(recipe, target, built, outcome, verdict)
        receipt = send(
            released.path,
            require_manifest(released.path).files,
            story.card,
            target,
            story.build,
            report=StageProgress("publish"),
        )
    for remark in receipt.remarks():
        say(remark)
    return StageResult.after(
        released,
        "publish",
        cost,
        cached=not receipt.sent,
        url=receipt.url,
        commit=receipt.commit,
        tag=receipt.tag,
        kept=list(receipt.kept),
    )
