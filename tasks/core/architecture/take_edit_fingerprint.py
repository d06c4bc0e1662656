"""The fresh process that takes a fingerprint. One model at a time is in memory."""

from pathlib import Path

from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tasks.core.architecture.directory import open_model
from tasks.core.architecture.proof.fresh_process import answer, versions
from tasks.core.architecture.proof.whole_model import (
    dtype_that_fits,
    edit_fingerprint,
    load_strictly,
    prompt_ids,
    prompt_token_logprobs,
)
from tasks.core.architecture.renew_edit_fingerprint import FingerprintAnswer, FingerprintRequest
from tasks.core.architecture.unedited import unedited_twin


def take(request: FingerprintRequest) -> FingerprintAnswer:
    """Return the model's answers in this process, with its edit and without it."""
    model = open_model(request.model)
    dtype = dtype_that_fits(model, request.memory_bytes)
    if dtype is None:
        return FingerprintAnswer(fingerprint=None)
    ids = prompt_ids(model)
    twin = unedited_twin(model.config)
    stock = load_strictly(LlamaForCausalLM, model, dtype=dtype, config=twin)
    unedited = prompt_token_logprobs(stock, ids)
    del stock
    ours = load_strictly(AutoModelForCausalLM, model, dtype=dtype, trust_remote_code=True)
    return FingerprintAnswer(
        fingerprint=edit_fingerprint(
            ids[0].tolist(),
            edited=prompt_token_logprobs(ours, ids),
            unedited=unedited,
            dtype=str(ours.dtype).removeprefix("torch."),
            versions=versions(),
        )
    )


def main(request_file: str, answer_file: str) -> int:
    """Answer the request in one file with the other; return the exit code."""
    return answer(FingerprintRequest, take, Path(request_file), Path(answer_file))
