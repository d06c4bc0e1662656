"""What is recorded of a model while it runs: inputs of activations, states, probes.

Hooks watch the modules and are removed afterwards; no model is changed.
"""

# mypy: allow-untyped-calls
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig

from tasks.core.architecture.directory import ModelDirectory, context_tokens_of
from tasks.core.architecture.edits.kinds import ArchitectureEdit
from tasks.core.architecture.module_values import (
    act_fns_of,
    act_values_of,
    inverse_frequencies,
)
from tasks.core.architecture.proof.module_probe import probe_module
from tasks.core.architecture.proof.observation import Observation


@dataclass(frozen=True)
class ProofSubject:
    """An edited model, the model that it was edited from, and the edits between them.

    before is the configuration of the unedited model; `unedited` may be the edited directory itself
    where its source is no longer there: the weights are the same.
    """

    edited: ModelDirectory
    unedited: ModelDirectory
    before: LlamaConfig
    edits: tuple[ArchitectureEdit, ...]

    @property
    def context_end(self) -> int:
        """One more than the last position of the edited model's context."""
        return context_tokens_of(self.edited.config)

    @property
    def layers(self) -> list[int]:
        """The edited layers, in order."""
        return sorted({layer for edit in self.edits for layer in edit.edited_layers})

    @property
    def edits_attention(self) -> bool:
        """Whether an edit changes the attention, and with it what a position means."""
        return any(edit.place == "attention" for edit in self.edits)


@contextmanager
def watched_activations(model: nn.Module, layers: Sequence[int]) -> Iterator[list[Tensor]]:
    """Collect the two extremes of each input that the activations of these layers get."""
    extremes: list[Tensor] = []

    def watch(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        extremes.append(torch.stack(arguments[0].aminmax()).float())

    act_fns = act_fns_of(model)
    hooks = [act_fns[layer].register_forward_pre_hook(watch) for layer in layers]
    try:
        yield extremes
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def watched_norms(layer: Any, subject: ProofSubject) -> Iterator[list[Tensor]]:
    """Collect the output of each normalization that a layer computes before the edited place."""
    states: list[Tensor] = []
    norms = [layer.input_layernorm]
    if not subject.edits_attention:
        norms.append(layer.post_attention_layernorm)
    hooks = [norm.register_forward_hook(lambda _m, _i, out: states.append(out)) for norm in norms]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def probe_outputs(
    model: Any, layers: Sequence[int], subject: ProofSubject, rotary: nn.Module
) -> dict[str, Tensor]:
    """Return the output of these layers' edited modules on their probes, by their names."""
    places = [(edit.place, layer) for edit in subject.edits for layer in edit.edited_layers]
    return {
        f"layer {layer}, {place}": probe_module(
            place, model.model.layers[layer], rotary, subject.context_end
        )
        for place, layer in places
        if layer in layers
    }


def observation_of(
    model: nn.Module,
    subject: ProofSubject,
    *,
    before: tuple[Tensor, ...],
    result: Tensor,
    probed: dict[str, Tensor],
    act_ranges: list[Tensor],
    logprobs: tuple[float, ...] = (),
) -> Observation:
    """Return what was recorded of a model, with what its modules compute."""
    values = torch.cat(act_ranges).tolist() if act_ranges else [math.nan]
    return Observation(
        modules=tuple(type(act_fn).__name__ for act_fn in act_fns_of(model)),
        act_values=act_values_of(model),
        inv_freq=inverse_frequencies(model, subject.context_end - 1),
        before=before,
        result=result,
        probed=probed,
        act_range=(min(values), max(values)),
        logprobs=logprobs,
    )
