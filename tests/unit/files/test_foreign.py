"""Files that are not what their names say, JSON of others, and errors of other libraries."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import AdapterMismatch, NotAModel
from tasks.core.files.foreign import (
    disguise_of,
    leaves,
    read_json_object,
    repeated_name,
    understood,
)
from tests.fuzz.mutations import EXAMPLES

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 9976576152\n"
IMPOSTORS = {
    "pointer": (POINTER, "Git LFS pointer"),
    "page": (b"<!DOCTYPE html><html><head><title>Sign in</title>", "web page"),
    "page after a mark": (b"\xef\xbb\xbf\n  <html>", "web page"),
    "bucket's answer": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "web page"),
    "server's words": (b"Entry not found", "error message of a server"),
    "server's object": (b'{"error":"Repository not found"}', "error message of a server"),
    "nothing": (b"", "empty file"),
}


@pytest.mark.parametrize(("content", "name"), IMPOSTORS.values(), ids=IMPOSTORS.keys())
@pytest.mark.parametrize("text", [True, False])
def test_what_stands_in_a_file_s_place_is_named(tmp_path, content, name, text):
    path = tmp_path / "file"
    path.write_bytes(content)
    found = disguise_of(path, text=text)
    assert found is not None
    assert name in found[0]


def test_a_text_in_place_of_a_binary_file_is_shown(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("You need to agree to share your contact information\n")
    found = disguise_of(path, text=False)
    assert found is not None
    assert "You need to agree" in found[0]
    assert disguise_of(path, text=True) is None


BROKEN = {
    "comma before }": ('{"a": 1,}', "comma before the closing }"),
    "comma before ]": ('{"a": [1, 2, ]}', "comma before the closing ]"),
    "half": ('{"a": {"b": 1', "ends in the middle"),
    "half a string": ('{"a": "b', "string"),
    "single quotes": ("{'a': 1}", "double quotes"),
    "a list": ("[1]", "list"),
    "half of a pair": (r'{"a": ["\ud800"]}', "half of a surrogate pair"),
    "a comment": ('{"a": 1} // mine', "Extra data"),
    "too deep": ("[" * 100_000, "recursion"),
}


@pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_json_is_refused_with_file_and_cause(tmp_path, content, words):
    path = tmp_path / "tokenizer_config.json"
    path.write_text(content)
    with pytest.raises(NotAModel) as refused:
        read_json_object(path)
    assert words in str(refused.value)
    assert str(path) in refused.value.where


def test_the_line_of_the_mistake_is_told(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{\n "a": 1,\n "b": 2,\n}\n')
    with pytest.raises(AdapterMismatch, match=r"line [34]"):
        read_json_object(path, error=AdapterMismatch)


def test_a_byte_order_mark_is_skipped_and_another_encoding_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json_object(path) == {"a": 1}
    path.write_text('{"a": "ä"}', encoding="latin-1")
    with pytest.raises(NotAModel, match="UTF-8"):
        read_json_object(path)
    path.write_text('{"a": 1}', encoding="utf-16")
    with pytest.raises(NotAModel, match="UTF-8"):
        read_json_object(path)


def test_a_directory_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(NotAModel, match="is a directory"):
        read_json_object(tmp_path / "config.json")


@pytest.mark.parametrize("raised", [KeyError("gleu"), AssertionError("padding_idx"), OSError("x")])
def test_what_another_library_raises_is_told_in_its_words(raised):
    with pytest.raises(NotAModel, match=type(raised).__name__), understood("a model", Path("m")):
        raise raised


@pytest.mark.parametrize(
    "raised",
    [
        AdapterMismatch("already told"),
        MemoryError(),
        RuntimeError("CUDA out of memory"),
        OSError(errno.ENOSPC, "full"),
    ],
)
def test_what_other_places_explain_passes_through(raised):
    with pytest.raises(type(raised)) as passed, understood("a model", Path("m")):
        raise raised
    assert passed.value is raised


def test_a_valid_file_is_read_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [1, {"b": None}]}))
    assert read_json_object(path) == {"a": [1, {"b": None}]}


_PARTS = [
    "..",
    ".",
    "",
    "a",
    "a b",
    "~",
    "\\",
    "\0",
    "\u2215",
    "\uff0f",
    "\uff0e\uff0e",
    "\u202e",
    "C:",
    " ",
]


@settings(max_examples=EXAMPLES or 300)
@given(st.lists(st.sampled_from(_PARTS), max_size=6).map("/".join) | st.text(max_size=12))
def test_a_name_that_does_not_leave_lies_below_its_directory(name: str) -> None:
    if not leaves(name):
        place = os.path.normpath(f"/base/{name}")
        assert place.startswith("/base/")
        assert "\0" not in place


def test_the_name_that_stands_twice_among_many_is_found_in_no_time() -> None:
    pairs = [(str(number), 0) for number in range(300_000)] + [("299999", 0)]
    assert repeated_name(pairs) == "299999"
    assert repeated_name(pairs[:-1]) is None
