"""What an edit is: a small class that changes a configuration, a loaded module, and has a proof.

`apply_to_config` is what travels; `apply_to_module` does the same to a stock LLaMA in memory and is
the independent reference of the proof; `prove` looks at what its own kind of edit should show. A
new kind of edit is one more class here, one more field of the recipe's `Edit`, and one more line in
`edits_of`. The invariant: what `edits_of` returns fits the model and changes something.
"""

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tasks.core.architecture.edits.layers import plan_activations
from tasks.core.architecture.edits.registry import ROUNDING, activation, computes, values_of
from tasks.core.architecture.edits.rope import context_tokens, rope_of, scaled_rope
from tasks.core.architecture.proof.loaded import frequencies_at
from tasks.core.architecture.proof.probe import Sublayer
from tasks.core.architecture.proof.seen import Check, Seen
from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig
from tasks.core.errors import RecipeError
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit


class ArchitectureEdit(Protocol):
    """A change to the architecture that travels with the model."""

    @property
    def edited_layers(self) -> tuple[int, ...]:
        """The layers to look at, in order. What comes before the first of them is untouched."""

    @property
    def place(self) -> Sublayer:
        """The part of a layer that changes; what the layer computes before it is untouched."""

    def apply_to_config(self, config: KawanUsahaConfig) -> None:
        """Write the change into the configuration that travels."""

    def apply_to_module(self, model: LlamaForCausalLM) -> None:
        """Make the same change to a stock LLaMA in memory, without the code that travels."""

    def prove(self, unedited: Seen, reference: Seen, edited: Seen) -> list[Check]:
        """Return what this kind of edit should show, checked on three models seen alike."""

    def hidden_by(self, unedited: Seen) -> str:
        """Return why what was seen may be the same with this edit and without it."""


@dataclass(frozen=True)
class ActivationsEdit:
    """Another activation function in the MLP of some layers.

    activations names the function of every layer after the edit, and `replaced` the one of all
    layers before it; edited_layers are those that the recipe names.
    """

    activations: tuple[str, ...]
    edited_layers: tuple[int, ...]
    replaced: str
    place: Sublayer = "mlp"

    def apply_to_config(self, config: KawanUsahaConfig) -> None:
        """Write one name for each layer."""
        config.hidden_acts = list(self.activations)

    def apply_to_module(self, model: LlamaForCausalLM) -> None:
        """Replace the module, as the original edit did by hand."""
        layers: Any = model.model.layers
        for layer in self.edited_layers:
            layers[layer].mlp.act_fn = activation(self.activations[layer])

    def prove(self, unedited: Seen, reference: Seen, edited: Seen) -> list[Check]:
        """Check every layer's function against the registry, and that the edited ones changed."""
        expected = torch.stack([values_of(activation(name)) for name in self.activations])
        wrong = [
            f"layer {layer} is {edited.modules[layer]}, not {name}"
            for layer, name in enumerate(self.activations)
            if not torch.allclose(edited.act_values[layer], expected[layer], atol=ROUNDING)
        ]
        edited_layers = ", ".join(map(str, self.edited_layers))
        same = [
            str(layer)
            for layer in self.edited_layers
            if torch.allclose(edited.act_values[layer], unedited.act_values[layer], atol=ROUNDING)
        ]
        return [
            Check(
                name="every layer computes the activation that the edit gives it",
                passed=not wrong,
                detail="; ".join(wrong) or f"layers looked at: {len(self.activations)}",
            ),
            Check(
                name="the edited layers compute another function than before",
                passed=not same,
                detail=f"unchanged: {', '.join(same)}" if same else f"edited: {edited_layers}",
            ),
        ]

    def hidden_by(self, unedited: Seen) -> str:
        """Say which values the activations get, and how far apart the functions are there."""
        low, high = unedited.act_range
        x = torch.linspace(low, high, 193)
        before = activation(self.replaced)(x)
        names = sorted({self.activations[layer] for layer in self.edited_layers})
        apart = max(float((activation(name)(x) - before).abs().max()) for name in names)
        return (
            f"the edited activations get values from {low:.2g} to {high:.2g}, where "
            f"{' and '.join(names)} and {self.replaced} are at most {apart:.2g} apart"
        )


@dataclass(frozen=True)
class RopeEdit:
    """A longer context by scaled rotary position embeddings, as transformers defines them.

    The trained length (max_position_embeddings) stays as it is: dynamic scaling computes with it,
    and engines multiply it by the factor.
    """

    parameters: dict[str, Any]
    edited_layers: tuple[int, ...] = (0,)  # every layer rotates; the first one shows it
    place: Sublayer = "attention"

    def apply_to_config(self, config: LlamaConfig) -> None:
        """Write the parameters in today's form."""
        config.rope_parameters = dict(self.parameters)

    def apply_to_module(self, model: LlamaForCausalLM) -> None:
        """Replace the one rotary embedding that all layers share."""
        self.apply_to_config(model.config)
        model.model.rotary_emb = LlamaRotaryEmbedding(model.config)

    def prove(self, unedited: Seen, reference: Seen, edited: Seen) -> list[Check]:
        """Check the inverse frequencies at the far end of the lengthened context."""
        as_defined = torch.equal(edited.inv_freq, reference.inv_freq)
        changed = not torch.equal(edited.inv_freq, unedited.inv_freq)
        last = f"lowest frequency {unedited.inv_freq[-1]:.3e} -> {edited.inv_freq[-1]:.3e}"
        return [
            Check(
                name=f"the rotary frequencies are those of {self.parameters['rope_type']} scaling "
                f"by {self.parameters['factor']}",
                passed=as_defined,
                detail=last,
            ),
            Check(name="the rotary frequencies changed", passed=changed, detail=last),
        ]

    def hidden_by(self, unedited: Seen) -> str:
        """Say that the attention takes no notice of positions."""
        return "the scores of the attention are too small to tell one position from another"


def edits_of(edit: Edit, config: LlamaConfig) -> tuple[ArchitectureEdit, ...]:
    """Return the edits that a recipe asks for on a stock LLaMA of this configuration.

    Raises RecipeError when a layer does not exist or is named twice, when an entry would change
    nothing, also where it is too close to what there is, and when the model's RoPE is scaled
    already.
    """
    edits: list[ArchitectureEdit] = []
    if edit.activations:
        edits.append(_activations_edit(edit.activations, config))
    if edit.rope_scaling is not None:
        edits.append(_rope_edit(edit.rope_scaling, config))
    return tuple(edits)


def _activations_edit(entries: tuple[ActivationEdit, ...], config: LlamaConfig) -> ActivationsEdit:
    before = config.hidden_act
    plan = plan_activations(entries, config.num_hidden_layers)
    for number, entry in enumerate(entries):
        if computes(activation(entry.activation), before):
            raise RecipeError(
                "The edit would change nothing: the layers have this activation already.",
                where=f"edit.activations[{number}]",
                expected=f"another activation than the model's {before}",
                found=entry.activation,
                next_step="Leave this entry out.",
            )
    activations = tuple(plan.get(layer, before) for layer in range(config.num_hidden_layers))
    return ActivationsEdit(activations, tuple(sorted(plan)), before)


def _rope_edit(scaling: RopeScalingEdit, config: LlamaConfig) -> RopeEdit:
    current = rope_of(config)
    if current.get("rope_type", "default") != "default":
        raise RecipeError(
            "The model's RoPE is scaled already; a second scaling on top has no definition.",
            where="edit.rope_scaling",
            expected="a model with rope_type default",
            found=current,
            next_step="Start from the model before its context was lengthened.",
        )
    edit = RopeEdit(scaled_rope(config, scaling.rope_type, scaling.factor))
    scaled = copy.deepcopy(config)
    edit.apply_to_config(scaled)
    if torch.equal(_last_frequencies(scaled), _last_frequencies(config)):
        raise RecipeError(
            "The edit would change nothing: the rotary frequencies stay the same.",
            where="edit.rope_scaling.factor",
            expected="a factor that float32 tells from 1",
            found=scaling.factor,
            next_step="Give a larger factor, such as 2, or leave rope_scaling out.",
        )
    return edit


def _last_frequencies(config: LlamaConfig) -> torch.Tensor:
    """Return the inverse frequencies at the far end of the context."""
    return frequencies_at(LlamaRotaryEmbedding(config), context_tokens(config) - 1)
