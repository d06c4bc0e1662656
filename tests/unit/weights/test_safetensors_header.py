"""Whatever a header says, the parser gives tensors inside the file or CorruptWeights."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.torch import save

from tasks.core.errors import CorruptWeights
from tasks.core.weights.dtypes import ITEM_BYTES
from tasks.core.weights.safetensors_header import (
    HeaderEntry,
    encode_header,
    parse_header,
    read_header,
)

HERE = Path("some.safetensors")


def _parse(header: object, data_bytes: int) -> list[HeaderEntry]:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return parse_header(raw, path=HERE, file_bytes=8 + len(raw) + data_bytes)


def _tensor(begin: int, end: int, *, dtype: str = "F16", shape: object = (2,)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BROKEN = {
    "not JSON": b"{",
    "not UTF-8": b'{"\xff": 1}',
    "not an object": [],
    "endless nesting": b"[" * 100_000,
    "a number that JSON has not": b'{"a": {"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":NaN}}',
    "metadata that is no text": {"__metadata__": {"format": 1}},
    "a name twice": b'{"a": {"dtype":"U8","shape":[4],"data_offsets":[0,4]}, "a": {}}',
    "unknown dtype": {"a": _tensor(0, 4, dtype="F4")},
    "dtype of another type": {"a": _tensor(0, 4, dtype=["F16"])},
    "negative size": {"a": _tensor(0, 4, shape=[-2])},
    "boolean size": {"a": _tensor(0, 4, shape=[True, 2])},
    "fractional size": {"a": _tensor(0, 4, shape=[2.0])},
    "no shape": {"a": {"dtype": "F16", "data_offsets": [0, 4]}},
    "one offset": {"a": {"dtype": "F16", "shape": [2], "data_offsets": [0]}},
    "offsets in the wrong order": {"a": _tensor(4, 0)},
    "more bytes than the shape": {"a": _tensor(0, 4, shape=[1])},
    "beyond the end": {"a": _tensor(0, 8, shape=[4])},
    "before the end": {"a": _tensor(0, 2, shape=[1])},
    "an overlap": {"a": _tensor(0, 4), "b": _tensor(2, 4, shape=[1])},
    "a gap": {"a": _tensor(0, 2, shape=[1]), "b": _tensor(3, 4, dtype="U8", shape=[1])},
    "a tensor that is a list": {"a": []},
    "a name of half a pair": {"\ud800": _tensor(0, 4)},
}


@pytest.mark.parametrize("header", BROKEN.values(), ids=BROKEN.keys())
def test_a_header_that_breaks_the_format_is_refused(header):
    with pytest.raises(CorruptWeights) as caught:
        _parse(header, data_bytes=4)
    assert str(HERE) in caught.value.where


@pytest.mark.parametrize("content", [b"", b"\x01\x00", b"\xff" * 8, b"\x10" + b"\0" * 7 + b"{}"])
def test_a_file_that_is_shorter_than_it_says_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptWeights):
        read_header(path)


def test_every_truncation_of_a_file_is_refused(tmp_path):
    whole = save({"a": torch.ones(3), "b": torch.ones(2, 2)})
    path = tmp_path / "model.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptWeights):
            read_header(path)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-4, 40) | st.sampled_from([*ITEM_BYTES, "", "F4"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "dtype", "shape", "data_offsets"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
_tensors = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "F16", "F32"]) | _json,
        "shape": st.lists(st.integers(0, 3), max_size=3) | _json,
        "data_offsets": st.tuples(st.integers(0, 12), st.integers(0, 12)) | _json,
    }
)


@given(
    header=st.dictionaries(st.sampled_from("abc"), _tensors, max_size=3), data=st.integers(0, 24)
)
def test_what_is_accepted_fills_the_file_and_is_accepted_by_the_reference(header, data):
    raw = json.dumps(header).encode()
    content = len(raw).to_bytes(8, "little") + raw + bytes(data)
    try:
        entries = parse_header(raw, path=HERE, file_bytes=len(content))
    except CorruptWeights:
        return
    assert sum(entry.nbytes for entry in entries) == data
    reference = dict(deserialize(content))
    assert {e.name: (e.dtype, list(e.shape)) for e in entries} == {
        name: (tensor["dtype"], list(tensor["shape"])) for name, tensor in reference.items()
    }


@given(noise=st.binary(max_size=200))
def test_noise_is_never_anything_but_corrupt(noise):
    with pytest.raises(CorruptWeights):
        parse_header(noise, path=HERE, file_bytes=8 + len(noise) + 1)


@given(
    shapes=st.lists(
        st.tuples(st.sampled_from(sorted(ITEM_BYTES)), st.lists(st.integers(0, 4), max_size=3)),
        max_size=5,
    )
)
def test_an_encoded_header_is_read_back_by_us_and_by_the_reference(shapes):
    entries, position = [], 0
    for i, (dtype, shape) in enumerate(shapes):
        nbytes = ITEM_BYTES[dtype] * torch.Size(shape).numel()
        entries.append(HeaderEntry(f"t{i}", dtype, tuple(shape), position, nbytes))
        position += nbytes
    header = encode_header(entries)
    assert len(header) % 8 == 0
    parsed = parse_header(header[8:], path=HERE, file_bytes=len(header) + position)
    assert {(e.name, e.dtype, e.shape, e.offset - len(header)) for e in parsed} == {
        (e.name, e.dtype, e.shape, e.offset) for e in entries
    }
    try:
        names = {name for name, _ in deserialize(header + bytes(position))}
    except SafetensorError as error:
        pytest.fail(f"the reference refuses our header: {error}")
    assert names == {entry.name for entry in entries}
