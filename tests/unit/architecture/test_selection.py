import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.architecture.edits.selection import plan_activations, selected_layers
from tasks.core.errors import RecipeError
from tasks.core.recipe import ActivationEdit, LayerSelector


def _gelu(*layers: LayerSelector) -> ActivationEdit:
    return ActivationEdit(layers=layers, activation="gelu")


@pytest.mark.parametrize("selector", [3, -4, "0:4", "-4:", "3:", "2:2", "2:1", ":0"])
def test_selector_without_a_layer_is_refused_with_the_valid_range(selector: LayerSelector) -> None:
    with pytest.raises(RecipeError, match=r"0 to 2, or -3 to -1"):
        plan_activations([_gelu(selector)], 3)


@pytest.mark.parametrize("layers", [(1, 1), (2, -1), ("all", 0), ("0:2", "1:3")])
def test_layer_named_twice_is_refused(layers: tuple[LayerSelector, ...]) -> None:
    with pytest.raises(RecipeError, match="names a layer twice"):
        plan_activations([_gelu(*layers)], 3)


def test_two_activations_for_one_layer_are_a_contradiction() -> None:
    relu = ActivationEdit(layers=("-2:",), activation="relu")
    with pytest.raises(RecipeError, match=r"contradicts itself(.|\n)*layer 2: gelu, then relu"):
        plan_activations([_gelu(-1), relu], 3)


@pytest.mark.parametrize(
    ("selector", "layers"),
    [(0, [0]), (-1, [4]), ("all", [0, 1, 2, 3, 4]), ("1:3", [1, 2]), ("-2:", [3, 4]), (":-4", [0])],
)
def test_selectors_mean_what_python_means(selector: LayerSelector, layers: list[int]) -> None:
    assert list(selected_layers(selector, 5, where="here")) == layers


@given(st.integers(1, 12), st.integers(-14, 14), st.integers(-14, 14))
def test_slice_names_the_layers_that_python_slices_or_is_refused(
    count: int, start: int, stop: int
) -> None:
    expected = list(range(count))[start:stop]
    inside = all(-count <= bound <= count for bound in (start, stop))
    if expected and inside:
        assert list(selected_layers(f"{start}:{stop}", count, where="here")) == expected
    else:
        with pytest.raises(RecipeError):
            selected_layers(f"{start}:{stop}", count, where="here")


def test_entries_for_different_layers_make_one_plan() -> None:
    relu = ActivationEdit(layers=("0:2",), activation="relu")
    assert plan_activations([_gelu(-1), relu], 4) == {3: "gelu", 0: "relu", 1: "relu"}
