"""A whole model in this process: loaded, and asked for the log-probabilities of the fixed prompt.

The invariant: a weight that the files lack is an error, never an initial value.
"""

# mypy: allow-untyped-calls
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoTokenizer

from tasks.core.architecture.directory import ModelDirectory
from tasks.core.errors import CorruptWeights
from tasks.core.files.foreign import understood
from tasks.core.machine.hardware import read_hardware
from tasks.core.model.edit_fingerprint import EditFingerprint
from tasks.core.weights.index import ModelIndex

PROMPT = "Selamat pagi, bagaimana cara menghitung laba warung saya?"
PROMPT_TOKENS = 32  # at most

OVERHEAD_BYTES = 1 << 30  # the libraries, and the states of a short prompt
WEIGHTS_FACTOR = 1.25  # the model in memory, and the part that is being read


def dtype_that_fits(
    model: ModelDirectory, memory_bytes: int | None
) -> torch.dtype | Literal["auto"] | None:
    """Return the type in which the whole model fits into memory, None where it does not fit.

    float32 if possible, else `auto`, the stored type. memory_bytes is what may be used, by default
    what is available.
    """
    if memory_bytes is None:
        memory_bytes = read_hardware(model.path).memory_available_bytes
    room_bytes = (memory_bytes - OVERHEAD_BYTES) / WEIGHTS_FACTOR
    parameters = sum(math.prod(entry.shape) for entry in model.index.tensors.values())
    if torch.float32.itemsize * parameters <= room_bytes:
        return torch.float32
    return "auto" if model.index.total_bytes <= room_bytes else None


def load_strictly(kind: Any, directory: ModelDirectory, **arguments: object) -> Any:
    """Return the model as a class of transformers loads it, in eval mode.

    Raises CorruptWeights where the files lack a weight.
    """
    model, info = kind.from_pretrained(directory.path, output_loading_info=True, **arguments)
    if info["missing_keys"]:
        raise missing_tensors(directory.index, info["missing_keys"])
    return model.eval()


def prompt_ids(model: ModelDirectory) -> Tensor:
    """Return the prompt as the model's own tokenizer encodes it, (1, tokens)."""
    with understood("the model's tokenizer", model.path):
        tokenizer = AutoTokenizer.from_pretrained(model.path, trust_remote_code=True)
    input_ids: Tensor = tokenizer(PROMPT, return_tensors="pt").input_ids
    return input_ids[:, :PROMPT_TOKENS]


def prompt_token_logprobs(model: Any, input_ids: Tensor) -> tuple[float, ...]:
    """Return the natural log-probability of each token after the first, computed in fp32."""
    with torch.inference_mode():
        logits = model(input_ids=input_ids, use_cache=False).logits
    return next_token_logprobs(logits, input_ids)


def next_token_logprobs(logits: Tensor, input_ids: Tensor) -> tuple[float, ...]:
    """Return the log-probability of each token after the first, from logits (1, T, vocabulary)."""
    wanted = input_ids[0, 1:, None]
    return tuple(logits[0, :-1].float().log_softmax(-1).gather(-1, wanted)[:, 0].tolist())


def edit_fingerprint(
    ids: Sequence[int],
    *,
    edited: tuple[float, ...],
    unedited: tuple[float, ...],
    dtype: str,
    versions: dict[str, str],
) -> EditFingerprint | None:
    """Return the fingerprint made of two models' answers, None where nothing can be compared.

    That is so without a second token, and where a value is not finite.
    """
    if not edited or not all(map(math.isfinite, (*edited, *unedited))):
        return None
    return EditFingerprint(
        prompt_ids=tuple(ids), edited=edited, unedited=unedited, dtype=dtype, versions=versions
    )


def missing_tensors(index: ModelIndex, names: Sequence[str]) -> CorruptWeights:
    """Return the error for tensors that the weight files lack."""
    return CorruptWeights(
        "The weight files lack tensors that the model needs.",
        where=index.directory,
        found="missing: " + ", ".join(sorted(names)[:8]),
        next_step="Download or merge the model again.",
    )
