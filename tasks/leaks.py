"""Leaks: which held-out conversations are in the training data, found before the training."""

from collections.abc import Mapping

from prefect import get_run_logger
from pydantic import TypeAdapter

from tasks.core.conversation.checking.leaks import Overlap, find_leaks
from tasks.core.conversation.reading.data_sources import (
    digest_of_sources,
    local_files,
    names_of_sources,
)
from tasks.core.errors import DataError
from tasks.core.files.digests import sha256_of_state
from tasks.core.files.durable import write_atomically
from tasks.core.keys import stage_key
from tasks.core.recipe import Evaluate, Finetune
from tasks.core.recipe.data import short_names
from tasks.core.store import Staging
from tasks.progress import StageProgress
from tasks.runtime import artifacts_with, build_stage, stage_task
from tasks.stage_result import StageResult, paths_of, result_digests

VERSION = 4
_FILE = "overlap.json"
_OVERLAP = TypeAdapter(Overlap)


def _name(settings: Finetune, evaluation: Evaluate, **_: object) -> str:
    return f"of {evaluation.conversations.name} in {short_names(settings.data)}"


@stage_task("leaks", _name)
def leaks(
    settings: Finetune,
    evaluation: Evaluate,
    override: str | None,
    brought: Mapping[str, StageResult] | None = None,
) -> StageResult:
    """Compare the recipe's held-out file with its training data, once for the same content.

    brought are the artifacts of sources that are not on this machine, by `str(source)`. Raises
    DataError where every held-out conversation leaks, unless the gate is overridden: the figures
    would prove nothing, and the gate would refuse the model after its training.
    """
    artifacts = brought or {}
    params = settings.model_dump(mode="json", include={"method"})  # omitted for sft
    if len(names := names_of_sources(settings.data)) > 1:
        params["files"] = names  # a leak names the file that it is in
    inputs = {
        "training": digest_of_sources(settings.data, result_digests(artifacts)),
        "held out": sha256_of_state(evaluation.conversations),
    }

    def write(staging: Staging) -> None:
        progress = StageProgress("leaks")
        files = local_files(settings.data, paths_of(artifacts), settings.method)
        found = find_leaks(files, evaluation.conversations, on_progress=progress)
        write_atomically(staging.path / _FILE, _OVERLAP.dump_json(found) + b"\n")

    key = stage_key("leaks", VERSION, params, inputs)
    needs = artifacts_with([evaluation.conversations])
    reads = tuple(artifacts.values())
    built = build_stage(key, write, params, inputs, reads=reads, needs=needs)
    found = overlap_in(built).first(evaluation.max_conversations)
    if found.whole and not (override or "").strip():
        raise DataError(
            "Every held-out conversation is in the training data: the figures would prove nothing.",
            where=evaluation.conversations,
            expected="conversations that the model is not trained on",
            found=f"{found}, in {', '.join(map(str, settings.data))}",
            next_step="Remove them from finetune.data, or use others in evaluate.conversations.",
        )
    if found.count:
        get_run_logger().warning("%s. The first: %s", found, found.first[0])
    return built


def overlap_in(result: StageResult) -> Overlap:
    """Return the overlap that the stage found."""
    return _OVERLAP.validate_json((result.path / _FILE).read_bytes())
