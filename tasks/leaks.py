"""Leaks: which held-out conversations stand in the training data, told before the training."""

from prefect import get_run_logger
from pydantic import TypeAdapter

from tasks.core.conversation.leaks import Overlap, find_leaks
from tasks.core.errors import DataError
from tasks.core.files import sha256_of_state, write_atomically
from tasks.core.keys import stage_key
from tasks.core.recipe import Evaluate, Finetune
from tasks.core.store import Staging
from tasks.progress import StageProgress
from tasks.runtime import StageResult, build_stage, stage_task

VERSION = 3
_FILE = "overlap.json"
_OVERLAP = TypeAdapter(Overlap)


def _name(settings: Finetune, evaluation: Evaluate, **_: object) -> str:
    return f"of {evaluation.conversations.name} in {settings.data.name}"


@stage_task("leaks", _name)
def leaks(settings: Finetune, evaluation: Evaluate, override: str | None) -> StageResult:
    """Hold both files of the recipe against each other, once for the same content.

    Raises DataError where every held-out conversation leaks, unless the gate is overridden: no
    figure would prove anything, and the gate would refuse the model after its training.
    """
    inputs = {
        "training": sha256_of_state(settings.data),
        "held out": sha256_of_state(evaluation.conversations),
    }

    def write(staging: Staging) -> None:
        report = StageProgress("leaks")
        found = find_leaks(settings.data, evaluation.conversations, report=report)
        write_atomically(staging.path / _FILE, _OVERLAP.dump_json(found) + b"\n")

    built = build_stage(stage_key("leaks", VERSION, {}, inputs), write, {}, inputs)
    found = overlap_in(built).first(evaluation.max_conversations)
    if found.whole and not (override or "").strip():
        raise DataError(
            "Every held-out conversation stands in the training data: no figure would prove "
            "anything.",
            where=evaluation.conversations,
            expected="conversations that the model is not trained on",
            found=f"{found}, in {settings.data}",
            next_step="Take them out of finetune.data, or name others in evaluate.conversations.",
        )
    if found.count:
        get_run_logger().warning("%s. The first: %s", found, found.first[0])
    return built


def overlap_in(result: StageResult) -> Overlap:
    """Return what the stage has found."""
    return _OVERLAP.validate_json((result.path / _FILE).read_bytes())
