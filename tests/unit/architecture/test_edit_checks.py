import pytest
import torch
from transformers import LlamaConfig
from transformers.activations import ACT2FN

from tasks.core.architecture.edits.activations import (
    LEARNED,
    activation,
    computes,
    name_of,
    require_activation,
)
from tasks.core.architecture.edits.kinds import architecture_edits
from tasks.core.architecture.edits.selection import COMMON_ACTIVATIONS, check_activation_names
from tasks.core.errors import RecipeError
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit

THREE_LAYERS = LlamaConfig(num_hidden_layers=3)


def _edit(activation: str, *layers: int) -> Edit:
    return Edit(activations=(ActivationEdit(layers=layers or (-1,), activation=activation),))


def test_unknown_activation_is_refused_with_a_near_name() -> None:
    with pytest.raises(RecipeError, match=r"knows no activation(.|\n)*Did you mean gelu"):
        check_activation_names(_edit("GELUU"))


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_activation_with_weights_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="weights of its own"):
        check_activation_names(_edit(name))


@pytest.mark.parametrize("name", sorted(ACT2FN))
def test_exactly_the_learned_activations_have_weights(name: str) -> None:
    assert bool(activation(name).state_dict()) == (name in LEARNED)


def test_missing_layer_is_refused_from_the_configuration_alone() -> None:
    with pytest.raises(RecipeError, match="does not have"):
        architecture_edits(_edit("gelu", 3), THREE_LAYERS)


@pytest.mark.parametrize("name", ["silu", "swish"])
def test_edit_that_changes_nothing_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="would change nothing"):
        architecture_edits(_edit(name), THREE_LAYERS)


@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
def test_rope_scaling_that_float32_does_not_tell_from_none_is_refused(rope_type: str) -> None:
    scaling = RopeScalingEdit.model_validate({"rope_type": rope_type, "factor": 1 + 1e-9})
    with pytest.raises(RecipeError, match="would change nothing"):
        architecture_edits(Edit(activations=(), rope_scaling=scaling), LlamaConfig())


def test_second_rope_scaling_is_refused() -> None:
    scaled = LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0})
    with pytest.raises(RecipeError, match="scaled already"):
        architecture_edits(Edit(activations=(), rope_scaling=RopeScalingEdit(factor=4.0)), scaled)


def test_possible_edit_passes() -> None:
    assert len(architecture_edits(_edit("gelu", 0, -1), THREE_LAYERS)) == 1


def test_function_is_known_by_what_it_computes_and_not_by_its_class() -> None:
    assert name_of(torch.nn.GELU(approximate="none"), "silu") == "gelu"
    assert not computes(torch.nn.GELU(approximate="tanh"), "gelu")
    assert name_of(torch.nn.Threshold(1.0, 7.0), "silu") == "unknown (Threshold)"


def test_the_names_that_need_no_registry_are_in_it() -> None:
    for name in COMMON_ACTIVATIONS:
        require_activation(name)
