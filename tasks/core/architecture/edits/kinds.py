"""The kinds of edit: each a small class that changes a configuration or a model, and proves it.

`apply_to_config` is what travels; `apply_to_module` makes the same change to a stock LLaMA in
memory and is the independent reference of the proof; `prove` checks what this kind of edit must
show. A new kind of edit is one more class here, one more field of the recipe's `Edit`, and one more
line in `architecture_edits`. The invariant: the edits that it returns fit the model and change
something.
"""

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tasks.core.architecture.directory import context_tokens_of, rope_parameters_of
from tasks.core.architecture.edits.activations import ROUNDING, activation, computes, values_of
from tasks.core.architecture.edits.selection import check_activation_names, plan_activations
from tasks.core.architecture.module_values import frequencies_at
from tasks.core.architecture.proof.observation import EditCheck, Observation, Sublayer
from tasks.core.architecture.remote.configuration_kawan_usaha import KawanUsahaConfig
from tasks.core.errors import RecipeError
from tasks.core.model.config import scaled_rope
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit


class ArchitectureEdit(Protocol):
    """A change to the architecture that travels with the model."""

    @property
    def edited_layers(self) -> tuple[int, ...]:
        """The layers to observe, in order. What comes before the first of them is untouched."""

    @property
    def place(self) -> Sublayer:
        """The part of a layer that changes; what the layer computes before it is untouched."""

    def apply_to_config(self, config: KawanUsahaConfig) -> None:
        """Write the change into the configuration that travels."""

    def apply_to_module(self, model: LlamaForCausalLM) -> None:
        """Make the same change to a stock LLaMA in memory, without the code that travels."""

    def prove(
        self, unedited: Observation, reference: Observation, edited: Observation
    ) -> list[EditCheck]:
        """Check what this kind of edit must show, on three models observed alike."""

    def hidden_by(self, unedited: Observation) -> str:
        """Return why the observed result may be the same with and without this edit."""


@dataclass(frozen=True)
class ActivationsEdit:
    """Another activation function in the MLP of some layers.

    activations names the function of every layer after the edit, `replaced` that of all layers
    before it; edited_layers are those that the recipe names.
    """

    activations: tuple[str, ...]
    edited_layers: tuple[int, ...]
    replaced: str
    place: Sublayer = "mlp"

    def apply_to_config(self, config: KawanUsahaConfig) -> None:
        """Write an activation name for each layer."""
        config.hidden_acts = list(self.activations)

    def apply_to_module(self, model: LlamaForCausalLM) -> None:
        """Replace the modules, as the original edit did by hand."""
        layers: Any = model.model.layers
        for layer in self.edited_layers:
            layers[layer].mlp.act_fn = activation(self.activations[layer])

    def prove(
        self, unedited: Observation, reference: Observation, edited: Observation
    ) -> list[EditCheck]:
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
            EditCheck(
                name="every layer computes its activation as edited",
                passed=not wrong,
                detail="; ".join(wrong) or f"layers checked: {len(self.activations)}",
            ),
            EditCheck(
                name="the edited layers compute a different function than before",
                passed=not same,
                detail=f"unchanged: {', '.join(same)}" if same else f"edited: {edited_layers}",
            ),
        ]

    def hidden_by(self, unedited: Observation) -> str:
        """Return the range of the activations' inputs, and how far the functions differ in it."""
        low, high = unedited.act_range
        x = torch.linspace(low, high, 193)
        before = activation(self.replaced)(x)
        names = sorted({self.activations[layer] for layer in self.edited_layers})
        apart = max(float((activation(name)(x) - before).abs().max()) for name in names)
        return (
            f"the inputs of the edited activations range from {low:.2g} to {high:.2g}, where "
            f"{' and '.join(names)} and {self.replaced} are at most {apart:.2g} apart"
        )


@dataclass(frozen=True)
class RopeEdit:
    """A longer context by scaled rotary position embeddings, as transformers defines them.

    The trained length (max_position_embeddings) is unchanged: dynamic scaling computes with it, and
    engines multiply it by the factor.
    """

    parameters: dict[str, Any]
    edited_layers: tuple[int, ...] = (0,)  # every layer rotates; the first is enough to see it
    place: Sublayer = "attention"

    def apply_to_config(self, config: LlamaConfig) -> None:
        """Write the parameters in today's form."""
        config.rope_parameters = dict(self.parameters)

    def apply_to_module(self, model: LlamaForCausalLM) -> None:
        """Replace the one rotary embedding that all layers share."""
        self.apply_to_config(model.config)
        model.model.rotary_emb = LlamaRotaryEmbedding(model.config)

    def prove(
        self, unedited: Observation, reference: Observation, edited: Observation
    ) -> list[EditCheck]:
        """Check the inverse frequencies at the far end of the lengthened context."""
        as_defined = torch.equal(edited.inv_freq, reference.inv_freq)
        changed = not torch.equal(edited.inv_freq, unedited.inv_freq)
        last = f"lowest frequency {unedited.inv_freq[-1]:.3e} -> {edited.inv_freq[-1]:.3e}"
        return [
            EditCheck(
                name=f"the rotary frequencies are those of {self.parameters['rope_type']} scaling "
                f"by {self.parameters['factor']}",
                passed=as_defined,
                detail=last,
            ),
            EditCheck(name="the rotary frequencies changed", passed=changed, detail=last),
        ]

    def hidden_by(self, unedited: Observation) -> str:
        """Return that the attention scores do not depend on positions."""
        return "the attention scores are too small to tell one position from another"


def architecture_edits(edit: Edit, config: LlamaConfig) -> tuple[ArchitectureEdit, ...]:
    """Return the edits that a recipe asks for on a stock LLaMA of this configuration.

    Raises RecipeError for an unknown activation, a layer that does not exist or is named twice, an
    entry that would change nothing (or less than float32 resolves), and where the model's RoPE is
    scaled already.
    """
    check_activation_names(edit)
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
                next_step="Remove this entry.",
            )
    activations = tuple(plan.get(layer, before) for layer in range(config.num_hidden_layers))
    return ActivationsEdit(activations, tuple(sorted(plan)), before)


def _rope_edit(scaling: RopeScalingEdit, config: LlamaConfig) -> RopeEdit:
    current = rope_parameters_of(config)
    if current.get("rope_type", "default") != "default":
        raise RecipeError(
            "The model's RoPE is scaled already; a second scaling on top has no definition.",
            where="edit.rope_scaling",
            expected="a model with rope_type default",
            found=current,
            next_step="Start from the model before its context was lengthened.",
        )
    positions = config.max_position_embeddings
    edit = RopeEdit(scaled_rope(current, scaling.rope_type, scaling.factor, positions))
    scaled = copy.deepcopy(config)
    edit.apply_to_config(scaled)
    if torch.equal(_last_frequencies(scaled), _last_frequencies(config)):
        raise RecipeError(
            "The edit would change nothing: the rotary frequencies stay the same.",
            where="edit.rope_scaling.factor",
            expected="a factor that float32 can distinguish from 1",
            found=scaling.factor,
            next_step="Use a larger factor, such as 2, or remove rope_scaling.",
        )
    return edit


def _last_frequencies(config: LlamaConfig) -> torch.Tensor:
    """Return the inverse frequencies at the far end of the context."""
    return frequencies_at(LlamaRotaryEmbedding(config), context_tokens_of(config) - 1)
