"""Observe three models alike: the unedited one, the reference, and the edited one.

The reference is stock LLaMA with the edit made in memory, so it shares no line with the class that
travels. One model at a time is in memory. A model that does not fit is observed layer by layer: the
edited layers alone, with their real weights, on a fixed random input. The invariant: a weight that
the files lack is an error, never an initial value.
"""

# mypy: allow-untyped-calls
import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from tasks.core.architecture.directory import ModelDirectory, context_tokens_of
from tasks.core.architecture.edits.kinds import ArchitectureEdit
from tasks.core.architecture.module_values import (
    act_fns_of,
    act_values_of,
    inverse_frequencies,
)
from tasks.core.architecture.proof.module_probe import probe_module
from tasks.core.architecture.proof.observation import Observation, ObservedModels
from tasks.core.architecture.proof.whole_model import (
    load_strictly,
    missing_tensors,
    next_token_logprobs,
    prompt_ids,
    prompt_logprobs,
)
from tasks.core.files.foreign import understood
from tasks.core.weights.index import ModelIndex
from tasks.core.weights.reader import TensorReader

LAYER_TOKENS = 16


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


def observe_whole_models(
    subject: ProofSubject, dtype: torch.dtype | Literal["auto"]
) -> ObservedModels:
    """Return the logits of the whole models, and the hidden states before the first edited layer.

    dtype is the type to compute in.
    """
    input_ids = prompt_ids(subject.edited)
    with understood("the unedited model", subject.unedited.path):
        stock: LlamaForCausalLM = load_strictly(
            LlamaForCausalLM, subject.unedited, dtype=dtype, config=subject.before
        )
    unedited = _observe(stock, input_ids, subject)
    for edit in subject.edits:
        edit.apply_to_module(stock)
    reference = _observe(stock, input_ids, subject)
    del stock
    ours = load_strictly(AutoModelForCausalLM, subject.edited, dtype=dtype, trust_remote_code=True)
    edited = _observe(ours, input_ids, subject)
    return ObservedModels("logits", unedited, reference, edited, tuple(input_ids[0].tolist()))


def observe_layers(subject: ProofSubject) -> list[ObservedModels]:
    """Return the output of each edited layer alone, and its states before the edited place."""
    stock, reference, ours = _models_on_meta(subject)
    observed = []
    for layer in subject.layers:
        weights = _layer_weights(subject.unedited.index, layer, stock)
        own_weights = (
            weights
            if subject.unedited is subject.edited
            else _layer_weights(subject.edited.index, layer, ours)
        )
        observed.append(
            ObservedModels(
                f"layer {layer}",
                _observe_layer(stock, layer, weights, subject),
                _observe_layer(reference, layer, weights, subject),
                _observe_layer(ours, layer, own_weights, subject),
            )
        )
    return observed


def _models_on_meta(subject: ProofSubject) -> tuple[Any, Any, Any]:
    """Return the unedited model, the reference and the edited model, without weights."""
    with torch.device("meta"):
        stock = LlamaForCausalLM(copy.deepcopy(subject.before))
        reference = LlamaForCausalLM(copy.deepcopy(subject.before))
        for edit in subject.edits:
            edit.apply_to_module(reference)
        config = AutoConfig.from_pretrained(subject.edited.path, trust_remote_code=True)
        ours = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    return stock, reference, ours


def _observe(model: Any, input_ids: Tensor, subject: ProofSubject) -> Observation:
    """Observe the prompt at the start of the context, where a server puts it, in one pass.

    With an edit of the attention: at the end of the context, where every RoPE scaling is visible;
    the log-probabilities are still those at the start.
    """
    tokens = input_ids.shape[1]
    first = subject.context_end - tokens if subject.edits_attention else 0
    positions = torch.arange(first, first + tokens).unsqueeze(0)
    with torch.inference_mode(), _watched_activations(model, subject.layers) as act_ranges:
        output = model(
            input_ids=input_ids, position_ids=positions, use_cache=False, output_hidden_states=True
        )
    logprobs = (
        prompt_logprobs(model, input_ids)
        if subject.edits_attention
        else next_token_logprobs(output.logits, input_ids)
    )
    return _observation(
        model,
        subject,
        before=output.hidden_states[: subject.layers[0] + 1],
        result=output.logits,
        probed=_probed(model, subject.layers, subject, model.model.rotary_emb),
        act_ranges=act_ranges,
        logprobs=logprobs,
    )


def _observe_layer(
    shell: Any, number: int, weights: dict[str, Tensor], subject: ProofSubject
) -> Observation:
    """Give one layer of a model on the meta device its weights, run it, and remove them again."""
    layer = shell.model.layers[number]
    layer.load_state_dict(weights, strict=True, assign=True)
    rotary = type(shell.model.rotary_emb)(shell.config)
    hidden = _random_hidden(shell.config.hidden_size, next(iter(weights.values())).dtype)
    positions = torch.arange(subject.context_end - LAYER_TOKENS, subject.context_end).unsqueeze(0)
    with (
        torch.inference_mode(),
        _watched_activations(shell, [number]) as act_ranges,
        _watched_norms(layer, subject) as states,
    ):
        output = layer.eval()(
            hidden, position_ids=positions, position_embeddings=rotary(hidden, positions)
        )
    probed = _probed(shell, [number], subject, rotary)
    layer.to("meta")
    return _observation(
        shell, subject, before=tuple(states), result=output, probed=probed, act_ranges=act_ranges
    )


def _random_hidden(hidden_size: int, dtype: torch.dtype) -> Tensor:
    """Return the same random states each time, (1, LAYER_TOKENS, hidden)."""
    shape = (1, LAYER_TOKENS, hidden_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@contextmanager
def _watched_activations(model: nn.Module, layers: Sequence[int]) -> Iterator[list[Tensor]]:
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
def _watched_norms(layer: Any, subject: ProofSubject) -> Iterator[list[Tensor]]:
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


def _probed(
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


def _observation(
    model: nn.Module,
    subject: ProofSubject,
    *,
    before: tuple[Tensor, ...],
    result: Tensor,
    probed: dict[str, Tensor],
    act_ranges: list[Tensor],
    logprobs: tuple[float, ...] = (),
) -> Observation:
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


def _layer_weights(index: ModelIndex, number: int, shell: Any) -> dict[str, Tensor]:
    """Return the tensors of one layer by their names inside it, ignoring others of that layer."""
    prefix = f"model.layers.{number}."
    names = [f"{prefix}{name}" for name in shell.model.layers[number].state_dict()]
    missing = [name for name in names if name not in index.tensors]
    if missing:
        raise missing_tensors(index, missing)
    with TensorReader(index) as reader:
        return {name.removeprefix(prefix): reader.load(name) for name in names}
