"""How many conversations and tokens a batch, an optimizer step and a whole training have.

Arithmetic on the settings alone: no model and no device is looked at.
"""

import math

from tasks.core.recipe import Finetune


def global_batch_size(finetune: Finetune) -> int:
    """Return how many conversations one optimizer step learns from."""
    accumulation = finetune.gradient_accumulation_steps
    return finetune.micro_batch_size * accumulation * finetune.processes


def total_steps(finetune: Finetune, examples: int) -> int:
    """Return the optimizer steps of the whole training.

    An epoch has ceil(examples / global_batch_size) steps, however the global batch is divided into
    micro batches, accumulation and processes.
    """
    steps = math.ceil(finetune.epochs * math.ceil(examples / global_batch_size(finetune)))
    return min(steps, finetune.max_steps or steps)


def sequences_per_record(finetune: Finetune) -> int:
    """Return how many token sequences one record of the data has: a preference has two."""
    return 2 if finetune.method == "dpo" else 1


def micro_batch_tokens(finetune: Finetune) -> int:
    """Return the tokens of a micro batch whose sequences all have the full length."""
    rows = sequences_per_record(finetune) * finetune.micro_batch_size
    return rows * finetune.max_length_tokens


def trained_tokens(
    finetune: Finetune, training_tokens: int | None, conversation_tokens: float | None = None
) -> float | None:
    """Return the tokens of all epochs, or of all steps where that is less; None if unknown.

    A conversation of unknown length counts as one of full length, a preference as two.
    """
    at_most = None
    if finetune.max_steps is not None:
        full_length = sequences_per_record(finetune) * finetune.max_length_tokens
        a_conversation = conversation_tokens or full_length
        at_most = float(finetune.max_steps * global_batch_size(finetune) * a_conversation)
    if training_tokens is None:
        return at_most
    asked = training_tokens * finetune.epochs
    return asked if at_most is None else min(asked, at_most)
