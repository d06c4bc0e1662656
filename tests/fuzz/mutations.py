"""Files as people bring them: a whole directory, and one thing in it that is wrong.

A mutation changes the files of a directory that was copied for it. JSON is changed at any depth
(another type, another size, a key too many or missing), and every file as bytes (cut off, marked,
replaced by what a server or Git LFS leaves in its place).
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

JsonPath = tuple[str | int, ...]

EXAMPLES = int(os.environ.get("KAWAN_USAHA_FUZZ_EXAMPLES", "0"))
"""How many new cases each test gets; else it is always the same few."""

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 3, 7, 10**6, 2**31, 2**63, -(2**63), 10**30]),
    st.sampled_from([0.0, -0.5, 0.1, 1e-300, 1e300, float("inf"), float("-inf"), float("nan")]),
    st.sampled_from(
        ["", " ", "0", "-1", "llama", "../../x", "/", "\x00", "\ud800", "a\nb", "🙂", "x" * 5000]
    ),
    st.text(max_size=8),
    st.sampled_from([[], {}, [[]], [None], {"": None}, [{}], {"a": {"b": [1]}}, ["a"] * 50]),
)
"""Values that no one expects there: of every type that JSON has, and of every size."""

REPLACEMENTS = (
    b"",
    b"\n",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n",
    b"<!DOCTYPE html><html><body>404</body></html>",
    b'{"error":"Repository not found"}',
    b"Entry not found",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"[" * 100_000,
    b"9" * 10_000,
    b"\xff\xfe{\x00}\x00",
    b"PK\x03\x04",
)


@dataclass(frozen=True)
class Mutation:
    """What is done to one file of a directory, in words and in deed."""

    file: str
    says: str
    new: bytes | None
    """What the file holds then; None takes it away."""

    def __repr__(self) -> str:
        return f"{self.file}: {self.says}"

    def apply(self, directory: Path) -> None:
        """Change the file in directory."""
        path = directory / self.file
        if self.new is None:
            path.unlink()
        else:
            path.write_bytes(self.new)


def mutations(whole: Path) -> st.SearchStrategy[Mutation]:
    """Return a strategy of mutations for the files of a directory that is whole."""
    files = sorted(p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.is_file())
    return st.sampled_from(files).flatmap(lambda name: _of_file(name, (whole / name).read_bytes()))


def _of_file(name: str, raw: bytes) -> st.SearchStrategy[Mutation]:
    kinds: list[st.SearchStrategy[Mutation]] = [
        st.just(Mutation(name, "missing", None)),
        st.sampled_from(REPLACEMENTS).map(lambda new: Mutation(name, f"is {new[:20]!r}", new)),
        st.integers(0, max(len(raw) - 1, 0)).map(
            lambda n: Mutation(name, f"cut off after {n} bytes", raw[:n])
        ),
        st.tuples(st.integers(0, len(raw)), st.binary(min_size=1, max_size=4)).map(
            lambda at: Mutation(
                name, f"{at[1]!r} put in at byte {at[0]}", raw[: at[0]] + at[1] + raw[at[0] :]
            )
        ),
        st.just(Mutation(name, "with a byte order mark", b"\xef\xbb\xbf" + raw)),
    ]
    as_json = _json_in(name, raw)
    if as_json is not None:
        document, write = as_json
        kinds += [_changed(name, document, write)] * 6
    return st.one_of(kinds)


def _json_in(name: str, raw: bytes) -> tuple[object, Callable[[object], bytes]] | None:
    """Return the JSON of a file, its header if that is where it stands, and how to write it."""
    if name.endswith(".json"):
        return json.loads(raw), _dumped
    if name.endswith(".jsonl"):
        lines = raw.splitlines()
        documents = [json.loads(line) for line in lines]
        return documents, _lines
    if name.endswith(".safetensors"):
        (size,) = struct.unpack("<Q", raw[:8])
        rest = raw[8 + size :]
        return json.loads(raw[8 : 8 + size]), lambda header: _with_header(header, rest)
    return None


def _dumped(document: object) -> bytes:
    return json.dumps(document).encode()


def _lines(documents: object) -> bytes:
    records = documents if isinstance(documents, list) else [documents]
    return b"\n".join(map(_dumped, records))


def _with_header(header: object, rest: bytes) -> bytes:
    written = _dumped(header)
    return struct.pack("<Q", len(written)) + written + rest


def _changed(
    name: str, document: object, write: Callable[[object], bytes]
) -> st.SearchStrategy[Mutation]:
    """Return changes of one place in a JSON document: another value, no key, one key more."""
    places = list(_places(document))

    def change(drawn: tuple[JsonPath, str, object]) -> Mutation:
        place, how, value = drawn
        copy = json.loads(json.dumps(document))
        says = _put(copy, place, how, value) if place else f"is {value!r}"
        return Mutation(name, says[:200], write(copy if place else value))

    hows = st.sampled_from(["value", "value", "value", "gone", "more"])
    return st.tuples(st.sampled_from([(), *places]), hows, ODD).map(change)


def _put(document: object, place: JsonPath, how: str, value: object) -> str:
    holder = document
    for step in place[:-1]:
        holder = holder[step]  # type: ignore[index]
    where = "/".join(map(str, place))
    if how == "gone":
        del holder[place[-1]]  # type: ignore[attr-defined]
        return f"without {where}"
    if how == "more" and isinstance(holder, dict):
        holder[f"{place[-1]}_"] = value
        return f"{where}_ beside {where} is {value!r}"
    holder[place[-1]] = value  # type: ignore[index]
    return f"{where} is {value!r}"


def _places(document: object, before: JsonPath = (), depth: int = 6) -> Iterator[JsonPath]:
    """Yield where something stands in a document; of a long list the first and the last four."""
    if not depth:
        return
    if isinstance(document, dict):
        steps: list[str | int] = list(document)
        steps = steps if len(steps) <= 60 else [*steps[:4], *steps[-4:]]
    elif isinstance(document, list):
        steps = [*range(len(document))]
        steps = steps if len(steps) <= 8 else [*steps[:4], *steps[-4:]]
    else:
        return
    for step in steps:
        yield (*before, step)
        yield from _places(document[step], (*before, step), depth - 1)  # type: ignore[call-overload]
