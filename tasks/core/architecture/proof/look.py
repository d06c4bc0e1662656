"""Look at three models alike: the unedited one, the reference, and the edited one.

The reference is stock LLaMA with the edit made in memory, so it shares no line with the class that
travels. One model at a time is in memory. A model that does not fit is looked at layer by layer:
the edited layers alone, with their real weights, on a fixed random input. The invariant: weights
that a file does not hold are an error, never an initial value.
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

from tasks.core.architecture.directory import ModelDirectory
from tasks.core.architecture.edits.kinds import ArchitectureEdit
from tasks.core.architecture.edits.rope import context_tokens
from tasks.core.architecture.proof.loaded import (
    act_fns_of,
    act_values_of,
    inverse_frequencies,
)
from tasks.core.architecture.proof.probe import probe
from tasks.core.architecture.proof.seen import Seen
from tasks.core.architecture.proof.whole import (
    following,
    lacks,
    load_whole,
    log_probabilities,
    prompt_ids,
)
from tasks.core.files.foreign import understood
from tasks.core.weights.index import ModelIndex
from tasks.core.weights.reader import TensorReader

LAYER_TOKENS = 16


@dataclass(frozen=True)
class Three:
    """The three models on the same input. place: "logits", or the layer that was looked at.

    prompt_ids: the tokens of the prompt; none where layers alone were looked at.
    """

    place: str
    unedited: Seen
    reference: Seen
    edited: Seen
    prompt_ids: tuple[int, ...] = ()


def look_at_whole(
    model: ModelDirectory,
    unedited: ModelDirectory,
    before: LlamaConfig,
    edits: Sequence[ArchitectureEdit],
    dtype: torch.dtype | Literal["auto"],
) -> list[Three]:
    """Return the logits of the whole models, and the hidden states before the first edited layer.

    before is the configuration of the unedited model; dtype is the type to compute in.
    """
    input_ids = prompt_ids(model)
    end = context_tokens(model.config)

    with understood("the unedited model", unedited.path):
        stock: LlamaForCausalLM = load_whole(LlamaForCausalLM, unedited, dtype=dtype, config=before)
    as_it_was = _look(stock, input_ids, end, edits)
    for edit in edits:
        edit.apply_to_module(stock)
    reference = _look(stock, input_ids, end, edits)
    del stock
    ours = load_whole(AutoModelForCausalLM, model, dtype=dtype, trust_remote_code=True)
    as_it_is = _look(ours, input_ids, end, edits)
    return [Three("logits", as_it_was, reference, as_it_is, tuple(input_ids[0].tolist()))]


def look_at_layers(
    model: ModelDirectory,
    unedited: ModelDirectory,
    before: LlamaConfig,
    edits: Sequence[ArchitectureEdit],
) -> list[Three]:
    """Return the output of each edited layer alone, and its states before the edited place."""
    with torch.device("meta"):
        stock = LlamaForCausalLM(copy.deepcopy(before))
        reference = LlamaForCausalLM(copy.deepcopy(before))
        for edit in edits:
            edit.apply_to_module(reference)
        config = AutoConfig.from_pretrained(model.path, trust_remote_code=True)
        ours = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    end = context_tokens(model.config)
    threes = []
    for layer in sorted({layer for edit in edits for layer in edit.edited_layers}):
        theirs = _layer_weights(unedited.index, layer, stock)
        own = theirs if unedited is model else _layer_weights(model.index, layer, ours)
        threes.append(
            Three(
                f"layer {layer}",
                _look_at_layer(stock, layer, theirs, end, edits),
                _look_at_layer(reference, layer, theirs, end, edits),
                _look_at_layer(ours, layer, own, end, edits),
            )
        )
    return threes


def _look(model: Any, input_ids: Tensor, end: int, edits: Sequence[ArchitectureEdit]) -> Seen:
    """Look at the prompt at the beginning of the context, where a server puts it, in one pass.

    With an edit of the attention at its end, where every RoPE scaling shows; the log-probabilities
    are those at the beginning all the same.
    """
    numbers = sorted({layer for edit in edits for layer in edit.edited_layers})
    tokens = input_ids.shape[1]
    rotates = any(edit.place == "attention" for edit in edits)
    first = end - tokens if rotates else 0
    positions = torch.arange(first, first + tokens).unsqueeze(0)
    with torch.inference_mode(), _watched(model, numbers) as act_ranges:
        output = model(
            input_ids=input_ids, position_ids=positions, use_cache=False, output_hidden_states=True
        )
    before = output.hidden_states[: numbers[0] + 1]
    logprobs = (
        log_probabilities(model, input_ids) if rotates else following(output.logits, input_ids)
    )
    probed = _probed(model, numbers, edits, model.model.rotary_emb, end)
    return _seen(
        model,
        end,
        before=before,
        result=output.logits,
        probed=probed,
        act_ranges=act_ranges,
        logprobs=logprobs,
    )


def _look_at_layer(
    shell: Any,
    number: int,
    weights: dict[str, Tensor],
    end: int,
    edits: Sequence[ArchitectureEdit],
) -> Seen:
    """Give one layer of a model on the meta device its weights, run it, and take them away."""
    layer = shell.model.layers[number]
    layer.load_state_dict(weights, strict=True, assign=True)
    dtype = next(iter(weights.values())).dtype
    shape = (1, LAYER_TOKENS, shell.config.hidden_size)
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    positions = torch.arange(end - LAYER_TOKENS, end).unsqueeze(0)
    rotary = type(shell.model.rotary_emb)(shell.config)
    states: list[Tensor] = []
    norms = [layer.input_layernorm]
    if all(edit.place == "mlp" for edit in edits):
        norms.append(layer.post_attention_layernorm)
    hooks = [norm.register_forward_hook(lambda _m, _i, out: states.append(out)) for norm in norms]
    with torch.inference_mode(), _watched(shell, [number]) as act_ranges:
        output = layer.eval()(
            hidden, position_ids=positions, position_embeddings=rotary(hidden, positions)
        )
    for hook in hooks:
        hook.remove()
    probed = _probed(shell, [number], edits, rotary, end)
    layer.to("meta")
    return _seen(
        shell, end, before=tuple(states), result=output, probed=probed, act_ranges=act_ranges
    )


@contextmanager
def _watched(model: nn.Module, layers: Sequence[int]) -> Iterator[list[Tensor]]:
    """Collect what the activations of these layers get: of each input the two extremes."""
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


def _probed(
    model: Any,
    layers: Sequence[int],
    edits: Sequence[ArchitectureEdit],
    rotary: nn.Module,
    end: int,
) -> dict[str, Tensor]:
    """Return what the edited modules of these layers give on their probes, by their names."""
    places = [(edit.place, layer) for edit in edits for layer in edit.edited_layers]
    return {
        f"layer {layer}, {place}": probe(place, model.model.layers[layer], rotary, end)
        for place, layer in places
        if layer in layers
    }


def _seen(
    model: nn.Module,
    end: int,
    *,
    before: tuple[Tensor, ...],
    result: Tensor,
    probed: dict[str, Tensor],
    act_ranges: list[Tensor],
    logprobs: tuple[float, ...] = (),
) -> Seen:
    values = torch.cat(act_ranges).tolist() if act_ranges else [math.nan]
    return Seen(
        modules=tuple(type(act_fn).__name__ for act_fn in act_fns_of(model)),
        act_values=act_values_of(model),
        inv_freq=inverse_frequencies(model, end - 1),
        before=before,
        result=result,
        probed=probed,
        act_range=(min(values), max(values)),
        logprobs=logprobs,
    )


def _layer_weights(index: ModelIndex, number: int, shell: Any) -> dict[str, Tensor]:
    """Return the tensors of one layer by their names inside it; others in the file are left out."""
    prefix = f"model.layers.{number}."
    names = [f"{prefix}{name}" for name in shell.model.layers[number].state_dict()]
    missing = [name for name in names if name not in index.tensors]
    if missing:
        raise lacks(index, missing)
    with TensorReader(index) as reader:
        return {name.removeprefix(prefix): reader.load(name) for name in names}
