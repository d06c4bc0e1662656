import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.conversation.reading import chunks
from tasks.core.conversation.reading.json_values import values
from tasks.core.conversation.records import BadRecord

SMALL = 64
MARKS = st.text(alphabet=st.sampled_from('ab"\\,:{}[] \n\té'), max_size=90)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30) | MARKS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
ANY_TEXT = st.text(alphabet=st.sampled_from('ab"\\,:{}[] \n\r\té1'), max_size=120)
many = settings(max_examples=80)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records"


def read(
    path: Path, chunk_bytes: int, max_bytes: int = chunks.MAX_RECORD_BYTES
) -> list[tuple[int, object]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "RECORD_CHUNK_BYTES", chunk_bytes)
        patch.setattr(chunks, "MAX_RECORD_BYTES", max_bytes)
        return [(at, _without_surroundings(value)) for at, value in values(path)]


def _without_surroundings(value: object) -> object:
    """Leave out what an error shows of the text around it: that ends where a piece does."""
    if not isinstance(value, BadRecord):
        return value
    return value.position, value.fault, re.sub(r" near ('.*'|\".*\")", "", value.reason)


@many
@given(
    st.lists(VALUES, min_size=3, max_size=30), st.sampled_from([None, 1]), st.sampled_from("\n\r")
)
def test_an_array_in_pieces_is_the_array(
    file: Path, written: list[object], indent: int | None, end: str
) -> None:
    text = json.dumps(written, ensure_ascii=False, indent=indent)
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", end).encode("utf-8", "replace"))
    read_back = json.loads(file.read_bytes())
    assert read(file, SMALL) == list(enumerate(read_back, start=1))


@many
@given(st.lists(VALUES, min_size=3, max_size=30))
def test_lines_in_pieces_are_the_lines(file: Path, written: list[object]) -> None:
    file.write_text('{"first": 1}\n\n' + "\n".join(map(json.dumps, written)))
    assert read(file, SMALL)[1:] == list(enumerate(written, start=3))


@many
@given(st.lists(st.just('{"a": [1, "x"]}') | ANY_TEXT, max_size=12))
def test_a_broken_array_is_told_at_the_same_place_in_pieces_and_whole(
    file: Path, parts: list[str]
) -> None:
    file.write_bytes(('[{"id": "x"}' + ", ".join(["", *parts]) + "]").encode())
    assert read(file, SMALL) == read(file, 1 << 20)


@many
@given(st.lists(st.just('{"a": [1, "x"]}') | ANY_TEXT, max_size=12))
def test_broken_lines_are_told_at_the_same_place_in_pieces_and_whole(
    file: Path, parts: list[str]
) -> None:
    file.write_bytes("\n".join(['{"id": "x"}', *parts]).encode())
    assert read(file, SMALL) == read(file, 1 << 20)


def test_an_error_in_a_later_piece_names_its_line_in_the_file(file: Path) -> None:
    good = json.dumps({"text": "x" * 50})
    file.write_bytes(("[" + ",\r\n".join([good] * 9) + ",\r\n{oops}]").encode())
    *_, (position, bad) = values(file)
    assert isinstance(bad, BadRecord)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "RECORD_CHUNK_BYTES", SMALL)
        *_, (position, bad) = values(file)
    assert position == 10
    assert isinstance(bad, BadRecord) and ", in line 10; nothing after it" in bad.reason


def test_a_record_that_is_never_closed_ends_the_reading_in_bounded_memory(file: Path) -> None:
    file.write_text('[{"a": 1}, {"b": "' + "x" * 5000)
    (_, first), (position, bad) = read(file, SMALL, 1000)
    assert (first, position) == ({"a": 1}, 2)
    assert isinstance(bad, tuple) and "longer than" in bad[2] and "nothing after" in bad[2]


def test_a_line_that_is_too_long_is_one_bad_record_between_others(file: Path) -> None:
    file.write_text('{"a": 1}\n' + "x" * 5000 + '\n{"b": 2}\n')
    (_, first), (position, bad), last = read(file, SMALL, 1000)
    assert (first, position, last) == ({"a": 1}, 2, (3, {"b": 2}))
    assert isinstance(bad, tuple) and "longer than" in bad[2]


def test_text_behind_an_array_is_a_bad_record_of_its_own(file: Path) -> None:
    file.write_text('[{"a": 1}]\n\n  {"b": 2}')
    (_, first), (position, bad) = values(file)
    assert (first, position) == ({"a": 1}, 2)
    assert isinstance(bad, BadRecord)
    assert bad.reason.startswith("text follows after the end of the array, in line 3")
