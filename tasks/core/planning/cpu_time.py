"""How long training, evaluation and serving take on a CPU that was measured.

Operations are counted on the shape and divided by the measured speed of matrix products in the type
that is computed in. What is no matrix product (norms, dropout, softmax, the optimizer) is counted
as operations a token, layer and hidden unit: constants that were fitted to runs of LLaMA shapes on
two cores (docs/planning.md). Right within a factor of two on a machine with nothing else to do.
"""

from dataclasses import dataclass

from tasks.core.machine.speed import CpuSpeed
from tasks.core.planning.shape import DTYPE_BYTES, ModelShape
from tasks.core.recipe import Dtype, Finetune

_OTHER_TRAINING = 40_000  # operations a token, layer and hidden unit, in a LoRA step
_OTHER_FORWARD = 8_000  # the same, in a forward pass
_LAYER_CALL_S = 0.001  # of one layer for one token, in Python and the start of its operations
_READ_SHARE = 0.7  # of the measured rate, reached through a layer's smaller weights
_VOCABULARY_PASSES = 12  # reads and writes of float32 log-probabilities while models are compared

START_S = {"finetune": 30.0, "evaluate": 15.0, "deploy": 30.0}
"""Until a stage's processes have imported torch and their libraries, without weights."""

ANSWERS_AT_ONCE = 4
"""An evaluation's answers that are written side by side; their caches lie beside the model."""


@dataclass(frozen=True)
class Evaluation:
    """How much an evaluation computes, and how its models lie in memory.

    answer_steps: the tokens of the answers, those counted once that are written side by side.
    spilled_bytes: the weights that do not fit into memory and are read again for each conversation
    and each of these steps.
    """

    models: int
    conversations: int
    held_out_tokens: int
    answer_steps: int
    prompt_tokens: int
    dtype: Dtype
    spilled_bytes: int = 0


def training_seconds_on_cpu(
    shape: ModelShape, finetune: Finetune, speed: CpuSpeed, tokens: float | None
) -> float | None:
    """Return the seconds of LoRA training on these tokens, all processes together on all cores.

    Frozen weights take 2 operations a parameter and token forward and 2 backward, and another
    forward pass with gradient checkpointing (Kaplan et al., arXiv:2001.08361, less the weight
    gradients), and a third where preferences are held against the model without its adapter;
    attention's scores as much as their length asks for. None when the tokens are not
    known, or the type was not measured.
    """
    measured = speed.types.get(finetune.precision)
    if tokens is None or measured is None:
        return None
    forwards = 2 if finetune.gradient_checkpointing else 1
    scores = 2 * shape.layers * shape.query_width * finetune.max_length_tokens  # half are masked
    forward = 2 * shape.multiplied_params + scores
    other = _OTHER_TRAINING * shape.layers * shape.hidden
    a_token = (forwards * forward + other / 2) / measured.forward_flops_per_s
    a_token += (forward + other / 2) / measured.backward_flops_per_s
    if finetune.method == "dpo":
        reference = forward + _OTHER_FORWARD * shape.layers * shape.hidden
        a_token += reference / measured.forward_flops_per_s
    return START_S["finetune"] + tokens * a_token


def evaluation_seconds_on_cpu(
    shape: ModelShape, evaluation: Evaluation, speed: CpuSpeed, *, disk_bytes_per_s: float
) -> float | None:
    """Return the seconds of measuring the models one after the other, or None for lack of a speed.

    For each model: reading it, a forward pass over the held-out conversations, the comparison with
    the models before it, and the answers.
    """
    rate = answer_tokens_per_s(shape, evaluation.dtype, speed)
    if rate is None:
        return None
    measured = speed.types[evaluation.dtype]
    read = evaluation.prompt_tokens + evaluation.held_out_tokens
    operations = 2 * shape.multiplied_params + _OTHER_FORWARD * shape.layers * shape.hidden
    a_token = operations / measured.forward_flops_per_s
    compared = _VOCABULARY_PASSES * DTYPE_BYTES["float32"] * shape.vocab / measured.read_bytes_per_s
    passes = evaluation.conversations + evaluation.answer_steps
    seconds = shape.weight_bytes("float16") / disk_bytes_per_s
    seconds += read * a_token + evaluation.held_out_tokens * compared
    seconds += evaluation.answer_steps / rate
    seconds += passes * evaluation.spilled_bytes / disk_bytes_per_s
    return START_S["evaluate"] + evaluation.models * seconds


def answer_tokens_per_s(shape: ModelShape, dtype: Dtype, speed: CpuSpeed) -> float | None:
    """Return how many tokens of one answer are made a second, or None for lack of a speed.

    Each token reads every weight but the embedding once: the memory is the limit, not arithmetic.
    """
    if dtype not in speed.types:
        return None
    read_bytes = shape.multiplied_params * DTYPE_BYTES[dtype]
    seconds = read_bytes / (_READ_SHARE * speed.types[dtype].read_bytes_per_s)
    return 1 / (seconds + shape.layers * _LAYER_CALL_S)
