"""Fine-tune: a LoRA adapter for the model, trained on the recipe's conversations."""

from prefect import get_run_logger

from tasks.core.files import sha256_of
from tasks.core.keys import stage_key
from tasks.core.recipe import Finetune
from tasks.core.store import Staging
from tasks.core.training.finetune import finetune as train
from tasks.runtime import StageProgress, StageResult, build_stage, stage_task

VERSION = 1


@stage_task("finetune")
def finetune(model: StageResult, settings: Finetune, template: str) -> StageResult:
    """Train the adapter; a killed attempt goes on from its last whole checkpoint."""
    params = {**settings.model_dump(mode="json", exclude={"data"}), "template": template}
    inputs = {"model": model.digest, "data": sha256_of(settings.data)}
    logger = get_run_logger()

    def write(staging: Staging) -> None:
        result = train(
            model.path,
            settings,
            data=settings.data,
            template=template,
            out=staging.path,
            report=StageProgress("finetune", "steps"),
            on_line=logger.info,
        )
        staging.note(
            steps=len(result.steps),
            trained_tokens=result.trained_tokens,
            resumed_from_step=result.resumed_from_step,
        )

    return build_stage(stage_key("finetune", VERSION, params, inputs), write, params, inputs)
