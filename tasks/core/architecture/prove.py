"""The fresh process of the proof: `python -m tasks.core.architecture.prove REQUEST ANSWER`.

Looks at the three models, makes every check and writes down what it found. It judges nothing: a
check that failed is an answer like any other. It computes in float32, which is exact for weights of
16 bits and fast on every CPU; in the stored type only where memory is short.
"""

import json
import math
import sys
from pathlib import Path
from typing import Literal

import torch

from tasks.core.architecture.directory import ModelDirectory, open_model
from tasks.core.architecture.edits import edits_of
from tasks.core.architecture.look import PROMPT, Three, look_at_layers, look_at_whole
from tasks.core.architecture.plain import unedited_config
from tasks.core.architecture.proof import EditProof, LayerRow, ProofRequest, versions
from tasks.core.architecture.rope import context_tokens, rope_of
from tasks.core.architecture.seen import Check
from tasks.core.errors import KawanUsahaError
from tasks.core.files import write_atomically
from tasks.core.planning.hardware import read_hardware

OVERHEAD_BYTES = 1 << 30  # the libraries, and the states of a short prompt
WEIGHTS_FACTOR = 1.25  # a model in memory, and the piece of it that is being read


def main() -> None:
    """Answer the request in the first file, in the second: with a proof, or with the error."""
    asked, answered = map(Path, sys.argv[1:])
    request = ProofRequest.model_validate_json(asked.read_bytes())
    try:
        write_atomically(answered, make_proof(request).model_dump_json())
    except KawanUsahaError as error:
        write_atomically(answered, json.dumps({"error": error.as_dict()}))
        sys.exit(error.exit_code)


def make_proof(request: ProofRequest) -> EditProof:
    """Return what this process sees of the edited model, with every check that was made."""
    model = open_model(request.model)
    if request.unedited:
        unedited = open_model(request.unedited)
        before = unedited.config
    else:
        unedited, before = model, unedited_config(model.config, request.edit)
    edits = edits_of(request.edit, before)
    dtype = _whole_dtype(model, request.memory_bytes)
    if dtype is None:
        threes = look_at_layers(model, unedited, before, edits)
    else:
        threes = look_at_whole(model, unedited, before, edits, dtype)
    first = threes[0]
    checks = [check for three in threes for check in compare(three)]
    for edit in edits:
        checks += edit.prove(first.unedited, first.reference, first.edited)
    return EditProof(
        seen="the whole model" if dtype else "the edited layers alone",
        dtype=str(first.edited.result.dtype).removeprefix("torch."),
        prompt=PROMPT if dtype else "random hidden states, seed 0",
        tokens=first.edited.result.shape[1],
        layers=_rows(first, (before.hidden_act,) * before.num_hidden_layers, model.activations),
        context_tokens_before=context_tokens(before),
        context_tokens_after=context_tokens(model.config),
        rope_before=rope_of(before),
        rope_after=rope_of(model.config),
        difference=max(_difference(three) for three in threes),
        checks=tuple(checks),
        versions=versions(),
    )


def compare(three: Three) -> list[Check]:
    """Return what any edit must show: changed, as the reference, and untouched before it."""
    unedited, reference, edited = three.unedited, three.reference, three.edited
    pairs = list(zip(unedited.before, edited.before, strict=True))
    untouched = all(torch.equal(a, b) for a, b in pairs)
    return [
        Check(
            name=f"{three.place}: other than the unedited model's",
            passed=not torch.equal(edited.result, unedited.result),
            detail=f"largest difference {_difference(three):.3g}",
        ),
        Check(
            name=f"{three.place}: bit for bit those of stock LLaMA edited in memory",
            passed=torch.equal(edited.result, reference.result),
            detail=f"largest difference {_distance(edited.result, reference.result):.3g}",
        ),
        Check(
            name=f"{three.place}: bit-equal hidden states before the edited place",
            passed=bool(pairs) and untouched,
            detail=f"states compared: {len(pairs)}",
        ),
    ]


def _whole_dtype(
    model: ModelDirectory, memory_bytes: int | None
) -> torch.dtype | Literal["auto"] | None:
    """Return the type in which the whole model fits into memory: `auto` is the stored one.

    None when it fits in neither.
    """
    if memory_bytes is None:
        memory_bytes = read_hardware(model.path).memory_available_bytes
    room_bytes = (memory_bytes - OVERHEAD_BYTES) / WEIGHTS_FACTOR
    parameters = sum(math.prod(entry.shape) for entry in model.index.tensors.values())
    if torch.float32.itemsize * parameters <= room_bytes:
        return torch.float32
    return "auto" if model.index.total_bytes <= room_bytes else None


def _rows(three: Three, before: tuple[str, ...], after: tuple[str, ...]) -> tuple[LayerRow, ...]:
    modules = zip(three.unedited.modules, three.edited.modules, strict=True)
    return tuple(
        LayerRow(layer=layer, before=f"{before[layer]} ({old})", after=f"{after[layer]} ({new})")
        for layer, (old, new) in enumerate(modules)
    )


def _difference(three: Three) -> float:
    return _distance(three.edited.result, three.unedited.result)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a.float() - b.float()).abs().max().item()


if __name__ == "__main__":
    main()
