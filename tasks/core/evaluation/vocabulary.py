"""The tokenizers of the models, and whether each model has a row for every token that it reads.

Checked for all models before the first one is loaded: an hour of measuring must not fail at the
last one.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from tasks.core.conversation.examples.labels import Encoder, Example
from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.conversation.tokenizer.model_limits import check_vocabulary, require_rows
from tasks.core.evaluation.figures import EvaluationJob, Subject
from tasks.core.evaluation.prompts import Prompt
from tasks.core.model.config import read_config
from tasks.core.process.said import say
from tasks.core.recipe import Evaluate


def encoder_of(subject: Subject, job: EvaluationJob) -> Encoder:
    """Return the model's encoder. Raises NotAModel when its tokenizer does not load."""
    return Encoder(
        load_tokenizer(subject.path, code="any"), job.template, job.settings.max_length_tokens
    )


def require_rows_for(
    subject: Subject,
    tokenizer: PreTrainedTokenizerBase,
    settings: Evaluate,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
) -> None:
    """Warn about tokens for which the model's embedding has no row.

    Raises NotAModel when the tokenizer inserts such a token, DataError when a text contains one.
    """
    config = read_config(subject.path)
    for warning in check_vocabulary(config, tokenizer, where=subject.path):
        say(f"Attention: {subject.role}: {warning}")
    held_out = (example.input_ids for example in examples)
    asked = (tokenizer(prompt.text)["input_ids"] for prompt in prompts)
    for file, texts in ((settings.conversations, held_out), (settings.prompts, asked)):
        largest = max((max(ids, default=0) for ids in texts), default=0)
        require_rows(config, largest, where=f"{file}, read by {subject.path}")
