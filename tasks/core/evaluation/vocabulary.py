"""The tokenizers of the models, and whether each has a row for every token that it will read.

Asked of all models before the first one is loaded: an hour of measuring must not end at the last.
"""

from collections.abc import Sequence

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tasks.core.conversation.labels import Encoder
from tasks.core.conversation.model_limits import check_vocabulary, require_rows
from tasks.core.conversation.records import Conversation
from tasks.core.evaluation.figures import EvaluationJob, Subject
from tasks.core.evaluation.prompts import Prompt
from tasks.core.foreign import understood
from tasks.core.model_config import read_config
from tasks.core.process.said import say


def tokenizer_of(
    subject: Subject,
    job: EvaluationJob,
    conversations: Sequence[Conversation],
    prompts: Sequence[Prompt],
) -> PreTrainedTokenizerBase:
    """Return the model's tokenizer. Says of which tokens the embedding has no row.

    Raises NotAModel when it inserts one of those, DataError when a text holds one.
    """
    with understood("the model's tokenizer", subject.path):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            subject.path, trust_remote_code=True
        )
    config, settings = read_config(subject.path), job.settings
    for warning in check_vocabulary(config, tokenizer, where=subject.path):
        say(f"Attention: {subject.role}: {warning}")
    encoder = Encoder(tokenizer, job.template, settings.max_length_tokens)
    held_out = (encoder.encode(conversation).input_ids for conversation in conversations)
    asked = (tokenizer(prompt.text)["input_ids"] for prompt in prompts)
    for file, texts in ((settings.conversations, held_out), (settings.prompts, asked)):
        largest = max((max(ids, default=0) for ids in texts), default=0)
        require_rows(config, largest, where=f"{file}, read by {subject.path}")
    return tokenizer
