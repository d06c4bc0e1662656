"""Fine-tune: a LoRA adapter for the model, trained on the recipe's conversations."""

from tasks.core.conversation.prepared import DECIDING
from tasks.core.errors import KawanUsahaError
from tasks.core.home import home
from tasks.core.keys import stage_key
from tasks.core.recipe import Finetune
from tasks.core.recipe.data import short_names
from tasks.core.store import Staging
from tasks.core.training.checkpoints.directory import CHECKPOINTS, whole_state
from tasks.core.training.curve import loss_table
from tasks.core.training.job import OPERATING
from tasks.core.training.request import TrainingRequest
from tasks.core.training.result import WORK_DIRECTORY
from tasks.notices import Notice, NoticeEvent, notify
from tasks.outbox import show_markdown
from tasks.progress import StageProgress, log_line, output_log, recipe_name
from tasks.runtime import build_stage, stage_task
from tasks.stage_result import StageResult

VERSION = 4
RETRIES = 24  # each is a step down; more than any ladder has rungs
SECONDS_TO_THE_NEXT_RUNG = 5.0


def _name(settings: Finetune, **_: object) -> str:
    return f"LoRA of rank {settings.lora.r} on {short_names(settings.data)}"


@stage_task("finetune", _name, retries=RETRIES, retry_delays_s=(SECONDS_TO_THE_NEXT_RUNG,))
def finetune(
    model: StageResult, examples: StageResult, settings: Finetune, template: str
) -> StageResult:
    """Train the adapter: resumed after a crash, retried with less memory when it runs out."""
    params = settings.model_dump(mode="json", exclude={"data", *DECIDING, *OPERATING})
    inputs = {"model": model.digest, "examples": examples.digest}

    def write(staging: Staging) -> None:
        from tasks.core.training.ladder import SteppedDown, train_on_due_rung  # needs torch

        staging.holds_no_text()
        progress = StageProgress("finetune", "steps", log=False)

        def report(line: str) -> None:
            log_line(line)
            progress.text = line

        request = TrainingRequest(
            model=model.path,
            settings=settings,
            data=examples.path,
            template=template,
            out=staging.path,
            on_progress=progress,
            on_line=report,
            log=output_log("finetune"),
        )
        checkpoints = staging.path / WORK_DIRECTORY / CHECKPOINTS
        try:
            with staging.handed_over(lambda: whole_state(checkpoints)):
                made = train_on_due_rung(request, home())
        except SteppedDown as stepped:
            notify(_less_memory(stepped))
            raise
        trained = made.trained
        staging.note(
            steps=trained.total_steps,
            losses=trained.losses,
            validation_loss=trained.validation_loss,
            trained_tokens=trained.trained_tokens,
            resumed_from_step=trained.resumed_from_step,
            rung=made.rung.name,
            steps_down=[step.model_dump(mode="json") for step in made.steps_down],
        )
        table = loss_table(trained.steps, trained.validation)
        show_markdown(table, key="loss", description="Loss of the fine-tune")

    key = stage_key("finetune", VERSION, params, inputs)
    return build_stage(key, write, params, inputs, reads=(model, examples))


def _less_memory(stepped: KawanUsahaError) -> Notice:
    name = recipe_name() or "fine-tune"
    title = f"{name}: the fine-tune continues with less memory"
    return Notice(NoticeEvent.LESS_MEMORY, "recipe", name, title, str(stepped), stepped.as_dict())
