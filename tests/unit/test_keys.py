import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.keys import StageKey, canonical_json, digest, stage_key
from tasks.core.recipe import Delta

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), float("inf"), {1: "a"}, b"x"])
def test_value_without_stable_identity_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"\$\.inner"):
        canonical_json({"inner": value})


@given(plain)
def test_canonical_json_round_trips(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_of_names_does_not_matter(value: dict[str, int]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


def test_key_changes_with_each_of_its_parts() -> None:
    keys = {
        stage_key("merge", 1, {"dtype": "float16"}, {"base": "a"}).digest,
        stage_key("edit", 1, {"dtype": "float16"}, {"base": "a"}).digest,
        stage_key("merge", 2, {"dtype": "float16"}, {"base": "a"}).digest,
        stage_key("merge", 1, {"dtype": "float32"}, {"base": "a"}).digest,
        stage_key("merge", 1, {"dtype": "float16"}, {"base": "b"}).digest,
        stage_key("merge", 1, {"dtype": "float16"}, {"delta": "a"}).digest,
    }
    assert len(keys) == 6


def test_a_recipe_part_is_keyed_by_its_values() -> None:
    assert digest(Delta()) == digest(Delta().model_dump(mode="json"))


def test_a_key_is_written_as_its_stage_and_enough_of_its_digest() -> None:
    assert str(StageKey("merge", "0123456789abcdef" * 4)) == "merge-0123456789abcdef0123"
