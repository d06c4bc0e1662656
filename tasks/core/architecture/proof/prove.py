"""The fresh process of the proof, which answers a request in a file.

Looks at the three models, makes every check and writes down what it found. It judges nothing: a
check that failed is an answer like any other. The edit is proven at the modules that it changes;
how far the logits of a prompt move is a figure, because small weights can round it to nothing. It
computes in float32, which is exact for weights of 16 bits and fast on every CPU; in the stored type
only where memory is short.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tasks.core.architecture.directory import open_model
from tasks.core.architecture.edits.kinds import ArchitectureEdit, edits_of
from tasks.core.architecture.edits.rope import context_tokens, rope_of
from tasks.core.architecture.plain import unedited_config
from tasks.core.architecture.proof.fresh import answer, versions
from tasks.core.architecture.proof.look import Three, look_at_layers, look_at_whole
from tasks.core.architecture.proof.proof import EditProof, LayerRow, ProofRequest
from tasks.core.architecture.proof.seen import Check
from tasks.core.architecture.proof.whole import PROMPT, fingerprint, whole_dtype


def make_proof(request: ProofRequest) -> EditProof:
    """Return what this process sees of the edited model, with every check that was made."""
    model = open_model(request.model)
    if request.unedited:
        unedited = open_model(request.unedited)
        before = unedited.config
    else:
        unedited, before = model, unedited_config(model.config, request.edit)
    edits = edits_of(request.edit, before)
    dtype = whole_dtype(model, request.memory_bytes)
    if dtype is None:
        threes = look_at_layers(model, unedited, before, edits)
    else:
        threes = look_at_whole(model, unedited, before, edits, dtype)
    first = threes[0]
    computed_in = str(first.edited.result.dtype).removeprefix("torch.")
    checks = [check for three in threes for check in compare(three)]
    for edit in edits:
        checks += edit.prove(first.unedited, first.reference, first.edited)
    return EditProof(
        seen="the whole model" if dtype else "the edited layers alone",
        dtype=computed_in,
        prompt=PROMPT if dtype else "random hidden states, seed 0",
        tokens=first.edited.result.shape[1],
        layers=_rows(first, (before.hidden_act,) * before.num_hidden_layers, model.activations),
        context_tokens_before=context_tokens(before),
        context_tokens_after=context_tokens(model.config),
        rope_before=rope_of(before),
        rope_after=rope_of(model.config),
        difference=max(_difference(three) for three in threes),
        probe_difference=max(d for three in threes for d in _probe_differences(three).values()),
        checks=tuple(checks),
        warnings=tuple(warning for three in threes for warning in warn(three, edits)),
        versions=versions(),
        fingerprint=fingerprint(
            first.prompt_ids,
            edited=first.edited.logprobs,
            unedited=first.unedited.logprobs,
            dtype=computed_in,
            versions=versions(),
        ),
    )


def compare(three: Three) -> list[Check]:
    """Return what any edit must show: it is as the reference, and untouched before its place."""
    unedited, reference, edited = three.unedited, three.reference, three.edited
    pairs = list(zip(unedited.before, edited.before, strict=True))
    untouched = all(_same(a, b) for a, b in pairs)
    probed = [(edited.probed[name], reference.probed[name]) for name in reference.probed]
    return [
        Check(
            name=f"{three.place}: the edited modules give bit for bit what those of stock LLaMA "
            "edited in memory do, on a probe",
            passed=bool(probed) and all(_same(a, b) for a, b in probed),
            detail=f"largest difference {max(_distance(a, b) for a, b in probed):.3g}",
        ),
        Check(
            name=f"{three.place}: bit for bit those of stock LLaMA edited in memory",
            passed=_same(edited.result, reference.result),
            detail=f"largest difference {_distance(edited.result, reference.result):.3g}",
        ),
        Check(
            name=f"{three.place}: bit-equal hidden states before the edited place",
            passed=bool(pairs) and untouched,
            detail=f"states compared: {len(pairs)}",
        ),
    ]


def warn(three: Three, edits: Sequence[ArchitectureEdit]) -> Iterator[str]:
    """Yield what a person should know of an edit that is there, each with its reason."""
    dtype = str(three.edited.result.dtype).removeprefix("torch.")
    probed = _probe_differences(three)
    for name, difference in probed.items():
        if difference == 0:
            yield (
                f"{name}: gives the same with the edit and without it, even on a probe: its "
                "weights let nothing of the edit through"
            )
    if not all(bool(seen.result.isfinite().all()) for seen in (three.unedited, three.edited)):
        yield f"{three.place}: some are no finite numbers in {dtype}"
    if any(probed.values()) and _same(three.edited.result, three.unedited.result):
        reasons = "; ".join(edit.hidden_by(three.unedited) for edit in edits)
        yield f"{three.place}: no difference to the unedited model in {dtype}: {reasons}"


def _rows(three: Three, before: tuple[str, ...], after: tuple[str, ...]) -> tuple[LayerRow, ...]:
    modules = zip(three.unedited.modules, three.edited.modules, strict=True)
    return tuple(
        LayerRow(layer=layer, before=f"{before[layer]} ({old})", after=f"{after[layer]} ({new})")
        for layer, (old, new) in enumerate(modules)
    )


def _difference(three: Three) -> float:
    return _distance(three.edited.result, three.unedited.result)


def _probe_differences(three: Three) -> dict[str, float]:
    edited = three.edited.probed
    return {name: _distance(edited[name], was) for name, was in three.unedited.probed.items()}


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether both hold the same numbers, and what is no number at the same places."""
    return torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference between two finite values at the same place."""
    return (a.float() - b.float()).abs().nan_to_num(0.0, 0.0).max().item()


def main(asked: str, answered: str) -> int:
    """Answer the request in the one file, in the other, and return the exit code."""
    return answer(ProofRequest, make_proof, Path(asked), Path(answered))
