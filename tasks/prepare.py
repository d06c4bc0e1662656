"""Prepare: the recipe's conversations as tokens and labels, once for every training on them."""

from tasks.core import keys
from tasks.core.conversation.prepared import identity, prepare_examples
from tasks.core.files import sha256_of
from tasks.core.recipe import Finetune
from tasks.core.store import Staging
from tasks.core.weights.companions import tokenizer_files
from tasks.progress import StageProgress
from tasks.runtime import StageResult, build_stage, stage_task

VERSION = 1


@stage_task("prepare")
def prepare(model: StageResult, settings: Finetune, template: str) -> StageResult:
    """Check, tokenize and divide the conversations. Of the model only its tokenizer counts."""
    params = identity(settings, template)
    files = {name: sha256_of(path) for name, path in tokenizer_files(model.path).items()}
    inputs = {"data": sha256_of(settings.data), "tokenizer": keys.digest(files)}

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

    return build_stage(keys.stage_key("prepare", VERSION, params, inputs), write, params, inputs)
