"""The fresh process of a fingerprint. One model at a time is in memory."""

from pathlib import Path

from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tasks.core.architecture.directory import open_model
from tasks.core.architecture.fingerprint import Fingerprint, FingerprintRequest
from tasks.core.architecture.plain import unedited_twin
from tasks.core.architecture.proof.fresh import answer, versions
from tasks.core.architecture.proof.whole import (
    fingerprint,
    load_whole,
    log_probabilities,
    prompt_ids,
    whole_dtype,
)


def take(request: FingerprintRequest) -> Fingerprint:
    """Return how this process finds the model to answer, with its edit and without it."""
    model = open_model(request.model)
    dtype = whole_dtype(model, request.memory_bytes)
    if dtype is None:
        return Fingerprint(fingerprint=None)
    ids = prompt_ids(model)
    twin = unedited_twin(model.config)
    stock = load_whole(LlamaForCausalLM, model, dtype=dtype, config=twin)
    unedited = log_probabilities(stock, ids)
    del stock
    ours = load_whole(AutoModelForCausalLM, model, dtype=dtype, trust_remote_code=True)
    return Fingerprint(
        fingerprint=fingerprint(
            ids[0].tolist(),
            edited=log_probabilities(ours, ids),
            unedited=unedited,
            dtype=str(ours.dtype).removeprefix("torch."),
            versions=versions(),
        )
    )


def main(asked: str, answered: str) -> int:
    """Answer the request in the one file, in the other, and return the exit code."""
    return answer(FingerprintRequest, take, Path(asked), Path(answered))
