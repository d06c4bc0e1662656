"""Observe three models alike: the unedited one, the reference, and the edited one.

The reference is stock LLaMA with the edit made in memory, so it shares no line with the class that
travels. One model at a time is in memory. A model that does not fit is observed layer by layer: the
edited layers alone, with their real weights, on a fixed random input. The invariant: a weight that
the files lack is an error, never an initial value.
"""

# mypy: allow-untyped-calls
import copy
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaForCausalLM,
)

from tasks.core.architecture.proof.observation import Observation, ObservedModels
from tasks.core.architecture.proof.recording import (
    ProofSubject,
    observation_of,
    probe_outputs,
    watched_activations,
    watched_norms,
)
from tasks.core.architecture.proof.whole_model import (
    load_strictly,
    missing_tensors,
    next_token_logprobs,
    prompt_ids,
    prompt_token_logprobs,
)
from tasks.core.files.foreign import understood
from tasks.core.weights.index import ModelIndex
from tasks.core.weights.reader import TensorReader

LAYER_TOKENS = 16


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
    with torch.inference_mode(), watched_activations(model, subject.layers) as act_ranges:
        output = model(
            input_ids=input_ids, position_ids=positions, use_cache=False, output_hidden_states=True
        )
    logprobs = (
        prompt_token_logprobs(model, input_ids)
        if subject.edits_attention
        else next_token_logprobs(output.logits, input_ids)
    )
    return observation_of(
        model,
        subject,
        before=output.hidden_states[: subject.layers[0] + 1],
        result=output.logits,
        probed=probe_outputs(model, subject.layers, subject, model.model.rotary_emb),
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
        watched_activations(shell, [number]) as act_ranges,
        watched_norms(layer, subject) as states,
    ):
        output = layer.eval()(
            hidden, position_ids=positions, position_embeddings=rotary(hidden, positions)
        )
    probed = probe_outputs(shell, [number], subject, rotary)
    layer.to("meta")
    return observation_of(
        shell, subject, before=tuple(states), result=output, probed=probed, act_ranges=act_ranges
    )


def _random_hidden(hidden_size: int, dtype: torch.dtype) -> Tensor:
    """Return the same random states each time, (1, LAYER_TOKENS, hidden)."""
    shape = (1, LAYER_TOKENS, hidden_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def _layer_weights(index: ModelIndex, number: int, shell: Any) -> dict[str, Tensor]:
    """Return the tensors of one layer by their names inside it, ignoring others of that layer."""
    prefix = f"model.layers.{number}."
    names = [f"{prefix}{name}" for name in shell.model.layers[number].state_dict()]
    missing = [name for name in names if name not in index.tensors]
    if missing:
        raise missing_tensors(index, missing)
    with TensorReader(index) as reader:
        return {name.removeprefix(prefix): reader.load(name) for name in names}
