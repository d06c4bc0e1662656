"""What a model directory holds: activations, shapes, dtypes, parameters, and the state of the edit.

Reads configuration and headers; no weight is loaded, so the cost is the same at any size. Code in
the directory is never run: where it is byte for byte ours, this process has it already.
"""

# mypy: allow-untyped-calls
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue
from torch import nn

from tasks.core.architecture.directory import (
    ModelDirectory,
    build_on_meta,
    context_tokens_of,
    open_model,
    rope_parameters_of,
)
from tasks.core.architecture.edit import AUTO_MAP, TRAVELLING_CODE
from tasks.core.architecture.edits.activations import name_of
from tasks.core.architecture.module_values import (
    act_fns_of,
    inverse_frequencies,
)
from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig
from tasks.core.architecture.remote.modeling_kawan_usaha import KawanUsahaForCausalLM
from tasks.core.errors import NotAModel, UnsafeName, UntrustedCode
from tasks.core.files.foreign import understood
from tasks.core.weights.index import TensorEntry
from tasks.core.weights.model_check import require_no_adapter_inside, weight_problems
from tasks.core.weights.small_files_check import check_small_files

EditState = Literal["none", "alive", "lost", "unknown"]


class _InspectionRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerInspection(_InspectionRecord):
    """One layer: its declared activation, what its module computes, and its weights."""

    layer: int
    declared: str
    computes: str
    module: str
    mlp_shape: tuple[int, ...]
    """gate_proj's (intermediate, hidden)."""
    dtypes: tuple[str, ...]
    parameters: int


class ModelInspection(_InspectionRecord):
    """What a model directory holds, read without loading its weights.

    problems: files that are not what they seem; tensors that are missing, have the wrong shape or
    belong to no module.
    """

    model_type: str
    model_class: str
    edit: EditState
    reason: str
    layers: tuple[LayerInspection, ...]
    dtypes: tuple[str, ...]
    parameters: int
    weight_bytes: int
    vocab_size: int
    hidden_size: int
    context_tokens: int
    rope: dict[str, JsonValue]
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, JsonValue]:
        """Return the inspection as plain JSON types."""
        plain: dict[str, JsonValue] = self.model_dump(mode="json")
        return plain


def inspect_model(model: Path) -> ModelInspection:
    """Return what the directory holds, for a plain LLaMA and for an edited one.

    The edit of a model whose code is not this version's is `unknown`. Raises NotAModel when the
    model is not a LLaMA.
    """
    directory = open_model(model)
    config, tensors = directory.config, directory.index.tensors
    built = _built(directory)
    layers = tuple(_layers(directory, built))
    state, reason = _edit_state(directory, built, layers)
    return ModelInspection(
        model_type=config.model_type,
        model_class=type(built).__name__ if built else "not built",
        edit=state,
        reason=reason,
        layers=layers,
        dtypes=_dtypes(tensors.values()),
        parameters=_parameters(tensors.values()),
        weight_bytes=directory.index.total_bytes,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        context_tokens=context_tokens_of(config),
        rope=rope_parameters_of(config),
        problems=tuple(_problems(directory)),
    )


def _built(directory: ModelDirectory) -> nn.Module | None:
    """Return the model as a loader builds it, on the meta device; None if its code is not ours."""
    if not directory.edited:
        return build_on_meta(directory)
    with understood("the model", directory.path / "config.json"), torch.device("meta"):
        if _has_our_code(directory) and isinstance(directory.config, KawanUsahaConfig):
            return KawanUsahaForCausalLM(directory.config)
    return None


def _has_our_code(directory: ModelDirectory) -> bool:
    copies = [(path, directory.path / path.name) for path in TRAVELLING_CODE]
    same = all(copy.is_file() and copy.read_bytes() == path.read_bytes() for path, copy in copies)
    return same and getattr(directory.config, "auto_map", None) == AUTO_MAP


def _edit_state(
    directory: ModelDirectory, built: nn.Module | None, layers: tuple[LayerInspection, ...]
) -> tuple[EditState, str]:
    if not directory.edited:
        if getattr(directory.config, "hidden_acts", None):
            return "lost", "model_type llama loads the built-in class, which ignores hidden_acts"
        return "none", "a plain LLaMA"
    if built is None:
        return "unknown", "the directory's code is not this version's and was not run"
    wrong = [str(layer.layer) for layer in layers if layer.computes != layer.declared]
    if wrong:
        return "lost", f"layers that do not compute their declared activation: {', '.join(wrong)}"
    end = context_tokens_of(directory.config)
    stock = build_on_meta(directory)
    if not torch.equal(inverse_frequencies(built, end - 1), inverse_frequencies(stock, end - 1)):
        return "lost", "the rotary frequencies do not follow the configuration"
    return "alive", "every layer and RoPE compute what the configuration declares"


def _layers(directory: ModelDirectory, built: nn.Module | None) -> Iterator[LayerInspection]:
    act_fns = act_fns_of(built) if built else None
    for number, declared in enumerate(directory.activations):
        prefix = f"model.layers.{number}."
        tensors = [t for name, t in directory.index.tensors.items() if name.startswith(prefix)]
        gate = directory.index.tensors.get(f"{prefix}mlp.gate_proj.weight")
        yield LayerInspection(
            layer=number,
            declared=declared,
            computes=name_of(act_fns[number], declared) if act_fns else "not known",
            module=type(act_fns[number]).__name__ if act_fns else "not built",
            mlp_shape=gate.shape if gate else (),
            dtypes=_dtypes(tensors),
            parameters=_parameters(tensors),
        )


def _problems(directory: ModelDirectory) -> Iterator[str]:
    """Yield the directory's problems, with the messages of the stages that would refuse it."""
    try:
        require_no_adapter_inside(directory.path)
        document = check_small_files(directory.path)
    except (NotAModel, UnsafeName, UntrustedCode) as error:
        yield f"{error.what} ({error.found})" if error.found else error.what
        return
    yield from weight_problems(document, directory.index)


def _dtypes(tensors: Iterable[TensorEntry]) -> tuple[str, ...]:
    return tuple(sorted({tensor.dtype for tensor in tensors}))


def _parameters(tensors: Iterable[TensorEntry]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors)
