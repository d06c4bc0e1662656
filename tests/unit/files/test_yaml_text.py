"""YAML as hostile input: a plain value of bounded size in bounded time, or NotYaml."""

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.files.yaml_text import MAX_CHARACTERS, NotYaml, read_yaml
from tests.fuzz.mutations import EXAMPLES


def aliases(levels: int, pattern: str) -> str:
    """Return a text in which each level stands for ten of the level before it."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {pattern % ', '.join([f'*a{n - 1}'] * 10)}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: !!bool maybe", "tag"),
        ("a: !!int ''", "tag"),
        ("a: !!float ''", "tag"),
        ("a: !!timestamp x", "tag"),
        ("a: !!binary é", "ASCII|ascii"),
        ("a: 2001-13-45", "month"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("? [a]\n: b", "unhashable"),
        ("a: *b", "undefined alias"),
        ("a: &a [*a]", "contains it"),
        ("[" * 5000, "deep"),
        ("a: 1" + ":59" * 1000, "number of"),
        ("a: 0x" + "f" * 10_000, "number of"),
        ("a: " + "9" * 5000, "number of"),
        (aliases(30, "[%s]"), "aliases"),
        (aliases(30, "{<<: [%s]}"), "aliases"),
        ("a" * (MAX_CHARACTERS + 1), "longer"),
        ("a: \x00", "special characters"),
        ("a: b: c", "mapping values"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_what_would_fail_or_take_for_ever_is_no_yaml(text: str, says: str) -> None:
    with pytest.raises(NotYaml, match=says):
        read_yaml(text)


def test_aliases_that_stand_for_little_are_followed() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]"
    assert read_yaml(text)[0] == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}


@pytest.mark.slow
def test_the_largest_text_of_small_values_takes_seconds() -> None:
    began = time.process_time()
    read_yaml(f"x: [{'a,' * (MAX_CHARACTERS // 2 - 10)}]")
    assert time.process_time() - began < 120


def test_a_field_that_stands_twice_is_named_with_its_lines() -> None:
    assert read_yaml("a: 1\nb: 2\na: 3")[1] == ["line 3: a stands in line 1 already"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=EXAMPLES or 50)
@given(plain)
def test_what_pyyaml_reads_is_read(value: object) -> None:
    """It is what was written, but for U+0085 in a name, which PyYAML writes as a line break."""
    written = yaml.safe_dump(value, allow_unicode=True)
    assert read_yaml(written) == (yaml.safe_load(written), [])


_SIGNS = ["a", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ", ", "&a ", "*a", "? ", "<<", "'", '"']
_MARKS = [
    "|",
    ">",
    "---",
    "...",
    "#",
    "\t",
    "\x85",
    "\ud800",
    "\ufeff",
    "~",
    "@",
    "`",
    "=",
    "!<tag> ",
]
_TYPES = ["int", "set", "omap", "pairs", "merge", "timestamp", "binary", "bool", "null", "float"]
_VALUES = ["%YAML 1.1\n", "0x", "1:2", "1e9", ".nan", "2001-01-01", "\\x"]
_PIECES = (*_SIGNS, *_MARKS, *_VALUES, *(f"!!{name} " for name in _TYPES))


@settings(max_examples=EXAMPLES or 200)
@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join))
def test_whatever_the_text_it_is_a_value_or_no_yaml(text: str) -> None:
    try:
        read_yaml(text)
    except NotYaml as error:
        assert str(error)
