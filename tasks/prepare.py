"""Prepare: the recipe's conversations as tokens and labels, once for every training run."""

from collections.abc import Mapping

from tasks.core import keys
from tasks.core.conversation.formats import NAMES
from tasks.core.conversation.prepared import identity, prepare_examples
from tasks.core.conversation.reading.data_files import detect_formats
from tasks.core.conversation.reading.data_sources import digest_of_sources, local_files
from tasks.core.files.digests import sha256_of
from tasks.core.recipe import Finetune
from tasks.core.recipe.data import short_names
from tasks.core.store import Staging
from tasks.core.store.manifest import require_manifest
from tasks.core.weights.companion_kinds import is_of_tokenizer
from tasks.core.weights.companions import tokenizer_files
from tasks.progress import StageProgress, log_line
from tasks.runtime import build_stage, stage_task
from tasks.stage_result import StageResult, paths_of, result_digests

VERSION = 4
"""Raised also when the rules change, as they decide which records are kept."""


def _name(settings: Finetune, **_: object) -> str:
    return short_names(settings.data)


@stage_task("prepare", _name)
def prepare(
    model: StageResult,
    settings: Finetune,
    template: str,
    brought: Mapping[str, StageResult] | None = None,
) -> StageResult:
    """Check, tokenize and split the conversations. Only the tokenizer of the model is used.

    brought are the artifacts of the sources that are not local, by `str(source)`.
    """
    artifacts = brought or {}
    params = identity(settings, template)
    data = digest_of_sources(settings.data, result_digests(artifacts))
    inputs = {"data": data, "tokenizer": keys.digest(_tokenizer(model))}

    def write(staging: Staging) -> None:
        files = local_files(settings.data, paths_of(artifacts), settings.method)
        for each in detect_formats(files, settings.method):
            weight = f", weight {each.weight:g}" if each.weight != 1 else ""
            log_line(f"{each.name}: {NAMES[each.read_as]}{weight}")
        prepared = prepare_examples(
            model.path,
            files,
            settings,
            template,
            out=staging.path,
            on_progress=StageProgress("prepare"),
        )
        staging.note(examples=prepared.counts.examples, tokens=prepared.counts.tokens)

    key = keys.stage_key("prepare", VERSION, params, inputs)
    return build_stage(key, write, params, inputs, reads=(model, *artifacts.values()))


def _tokenizer(model: StageResult) -> dict[str, str]:
    """Return the SHA-256 of the tokenizer files by name; of a freed model, from its manifest."""
    if model.freed:
        files = require_manifest(model.path).files
        return {name: file.sha256 for name, file in files.items() if is_of_tokenizer(name)}
    return {name: sha256_of(path) for name, path in tokenizer_files(model.path).items()}
