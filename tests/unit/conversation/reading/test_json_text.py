"""A field that stands in one object twice is never one of the two in silence."""

import io

import pytest

from tasks.core.conversation.reading.json_text import JsonText, RepeatedField, one_value


def test_a_repeated_field_is_named_with_what_python_makes_of_the_object() -> None:
    with pytest.raises(RepeatedField, match="`id`") as told:
        one_value('{"id": 1, "id": 2}')
    assert (told.value.field, told.value.value) == ("id", {"id": 2})


def test_the_reading_goes_on_behind_an_object_with_a_repeated_field() -> None:
    text = JsonText(io.StringIO('{"a": {"b": 1, "b": 1}}\n{"c": 1}'))
    with pytest.raises(RepeatedField, match="`b`"):
        text.value()
    assert text.value() == {"c": 1}


def test_one_name_in_two_objects_is_no_repetition() -> None:
    assert one_value('{"a": {"id": 1}, "id": 2}') == {"a": {"id": 1}, "id": 2}
