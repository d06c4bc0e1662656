"""Prepare: the recipe's conversations as tokens and labels, once for every training on them."""

from tasks.core import keys
from tasks.core.conversation.prepared import identity, prepare_examples
from tasks.core.files import sha256_of, sha256_of_state
from tasks.core.recipe import Finetune
from tasks.core.store import Staging
from tasks.core.store.manifest import require_manifest
from tasks.core.weights.companions import is_of_tokenizer, tokenizer_files
from tasks.progress import StageProgress
from tasks.runtime import StageResult, build_stage, stage_task

VERSION = 3
"""Raised with the rules as well, which decide what of the data is kept."""


def _name(settings: Finetune, **_: object) -> str:
    return settings.data.name


@stage_task("prepare", _name)
def prepare(model: StageResult, settings: Finetune, template: str) -> StageResult:
    """Check, tokenize and divide the conversations. Of the model only its tokenizer counts."""
    params = identity(settings, template)
    inputs = {"data": sha256_of_state(settings.data), "tokenizer": keys.digest(_tokenizer(model))}

    def write(staging: Staging) -> None:
        prepared = prepare_examples(
            model.path,
            settings.data,
            settings,
            template,
            out=staging.path,
            report=StageProgress("prepare"),
        )
        staging.note(examples=prepared.counts.examples, tokens=prepared.counts.tokens)

    key = keys.stage_key("prepare", VERSION, params, inputs)
    return build_stage(key, write, params, inputs, reads=(model,))


def _tokenizer(model: StageResult) -> dict[str, str]:
    """Return the SHA-256 of the tokenizer's files by name; of a freed model, as its manifest."""
    if model.freed:
        files = require_manifest(model.path).files
        return {name: file.sha256 for name, file in files.items() if is_of_tokenizer(name)}
    return {name: sha256_of(path) for name, path in tokenizer_files(model.path).items()}
