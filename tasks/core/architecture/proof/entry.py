"""The fresh process of the proof, which answers a request in a file.

Observes the three models, makes every check and writes down the results. It judges nothing: a check
that failed is an answer like any other. The edit is proven on the modules that it changes; how far
the logits of a prompt move is only reported as a number, because small weights can round it to
zero. Computes in float32, which is exact for weights of 16 bits and fast on every CPU; in the
stored type only where memory is short.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tasks.core.architecture.directory import (
    context_tokens_of,
    open_model,
    rope_parameters_of,
)
from tasks.core.architecture.edits.kinds import ArchitectureEdit, architecture_edits
from tasks.core.architecture.proof.edit_proof import EditProof, LayerRow, ProofRequest
from tasks.core.architecture.proof.fresh_process import answer, versions
from tasks.core.architecture.proof.observation import EditCheck, ObservedModels
from tasks.core.architecture.proof.observe import observe_layers, observe_whole_models
from tasks.core.architecture.proof.recording import ProofSubject
from tasks.core.architecture.proof.whole_model import PROMPT, dtype_that_fits, edit_fingerprint
from tasks.core.architecture.unedited import unedited_config


def make_proof(request: ProofRequest) -> EditProof:
    """Return what this process observes of the edited model, with every check that was made."""
    subject = _subject(request)
    dtype = dtype_that_fits(subject.edited, request.memory_bytes)
    observed = observe_layers(subject) if dtype is None else [observe_whole_models(subject, dtype)]
    first = observed[0]
    before, after = subject.before, subject.edited
    return EditProof(
        seen="the whole model" if dtype else "the edited layers alone",
        dtype=_dtype_name(first),
        prompt=PROMPT if dtype else "random hidden states, seed 0",
        tokens=first.edited.result.shape[1],
        layers=_rows(first, (before.hidden_act,) * before.num_hidden_layers, after.activations),
        context_tokens_before=context_tokens_of(before),
        context_tokens_after=context_tokens_of(after.config),
        rope_before=rope_parameters_of(before),
        rope_after=rope_parameters_of(after.config),
        difference=max(_distance(each.edited.result, each.unedited.result) for each in observed),
        probe_difference=max(d for each in observed for d in _probe_differences(each).values()),
        checks=tuple(_checks(observed, subject.edits)),
        warnings=tuple(text for each in observed for text in warnings_about(each, subject.edits)),
        versions=versions(),
        fingerprint=edit_fingerprint(
            first.prompt_ids,
            edited=first.edited.logprobs,
            unedited=first.unedited.logprobs,
            dtype=_dtype_name(first),
            versions=versions(),
        ),
    )


def _subject(request: ProofRequest) -> ProofSubject:
    edited = open_model(request.model)
    if request.unedited:
        unedited = open_model(request.unedited)
        before = unedited.config
    else:
        unedited, before = edited, unedited_config(edited.config, request.edit)
    return ProofSubject(edited, unedited, before, architecture_edits(request.edit, before))


def _checks(
    observed: Sequence[ObservedModels], edits: Sequence[ArchitectureEdit]
) -> Iterator[EditCheck]:
    for each in observed:
        yield from compare(each)
    first = observed[0]
    for edit in edits:
        yield from edit.prove(first.unedited, first.reference, first.edited)


def compare(observed: ObservedModels) -> list[EditCheck]:
    """Check what holds for any edit: equal to the reference, and untouched before its place."""
    place, reference, edited = observed.place, observed.reference, observed.edited
    pairs = list(zip(observed.unedited.before, edited.before, strict=True))
    untouched = all(_same(a, b) for a, b in pairs)
    probed = [(edited.probed[name], reference.probed[name]) for name in reference.probed]
    return [
        EditCheck(
            name=f"{place}: on a probe, the edited modules equal those of stock LLaMA edited in "
            "memory, bit for bit",
            passed=bool(probed) and all(_same(a, b) for a, b in probed),
            detail=f"largest difference {max(_distance(a, b) for a, b in probed):.3g}",
        ),
        EditCheck(
            name=f"{place}: equal to those of stock LLaMA edited in memory, bit for bit",
            passed=_same(edited.result, reference.result),
            detail=f"largest difference {_distance(edited.result, reference.result):.3g}",
        ),
        EditCheck(
            name=f"{place}: hidden states before the edited place unchanged, bit for bit",
            passed=bool(pairs) and untouched,
            detail=f"states compared: {len(pairs)}",
        ),
    ]


def warnings_about(observed: ObservedModels, edits: Sequence[ArchitectureEdit]) -> Iterator[str]:
    """Yield what a person should know about an edit that is alive, each with its reason."""
    place, dtype = observed.place, _dtype_name(observed)
    probed = _probe_differences(observed)
    for name, difference in probed.items():
        if difference == 0:
            yield (
                f"{name}: the output is the same with and without the edit, even on a probe: the "
                "weights there let nothing of the edit through"
            )
    if not all(bool(o.result.isfinite().all()) for o in (observed.unedited, observed.edited)):
        yield f"{place}: not all values are finite numbers in {dtype}"
    if any(probed.values()) and _same(observed.edited.result, observed.unedited.result):
        reasons = "; ".join(edit.hidden_by(observed.unedited) for edit in edits)
        yield f"{place}: no difference from the unedited model in {dtype}: {reasons}"


def _rows(
    observed: ObservedModels, before: tuple[str, ...], after: tuple[str, ...]
) -> tuple[LayerRow, ...]:
    modules = zip(observed.unedited.modules, observed.edited.modules, strict=True)
    return tuple(
        LayerRow(layer=layer, before=f"{before[layer]} ({old})", after=f"{after[layer]} ({new})")
        for layer, (old, new) in enumerate(modules)
    )


def _dtype_name(observed: ObservedModels) -> str:
    """Return the name of the type that was computed in."""
    return str(observed.edited.result.dtype).removeprefix("torch.")


def _probe_differences(observed: ObservedModels) -> dict[str, float]:
    edited = observed.edited.probed
    return {name: _distance(edited[name], was) for name, was in observed.unedited.probed.items()}


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether both hold the same numbers, with NaN in the same places."""
    return torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference between two finite values in the same place."""
    return (a.float() - b.float()).abs().nan_to_num(0.0, 0.0).max().item()


def main(request_file: str, answer_file: str) -> int:
    """Answer the request in one file with the other; return the exit code."""
    return answer(ProofRequest, make_proof, Path(request_file), Path(answer_file))
