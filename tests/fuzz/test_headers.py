"""What costs little to write and much to read: each is refused in bounded time and memory.

A process of its own reads, for memory is measured there. The bounds are far above what an honest
file takes: they fail on what has no bound.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import AdapterMismatch, CorruptWeights, KawanUsahaError
from tasks.core.files.foreign import read_json_object
from tasks.core.weights.adapter_config import read_lora_config
from tasks.core.weights.safetensors_header import MAX_HEADER_BYTES, parse_header, read_header
from tests.fuzz.mutations import EXAMPLES

MEMORY_BYTES = 3 << 30
PATIENCE_S = 300

_READ = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]), int(sys.argv[3])))
from tasks.core.errors import KawanUsahaError
{imports}
try:
    {read}
except KawanUsahaError as error:
    assert len(str(error)) < 5000, len(str(error))
    print(type(error).__name__)
else:
    print("read")
"""


def said_by_a_reader(imports: str, read: str, path: Path) -> str:
    """Return how a process with little memory ended that reads a file: read, or the error."""
    code = _READ.format(imports=imports, read=read)
    argv = [sys.executable, "-c", code, str(path), str(path.parent), str(MEMORY_BYTES)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def header(document: str) -> bytes:
    raw = document.encode()
    return len(raw).to_bytes(8, "little") + raw


def shaped(sizes: str) -> str:
    return '{"a":{"dtype":"F32","shape":[' + sizes + '],"data_offsets":[0,4]}}'


NOTHING = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
SIZES = {
    "a shape of half a million sizes": shaped(",".join(["4611686018427387904"] * 500_000)),
    "sizes of thousands of digits": shaped(",".join(["9" * 4000] * 60)),
    "the same names again": "{" + ",".join(f'"{n % 100_000}":0' for n in range(200_000)) + "}",
    "lists in a list": '{"a":[' + "[]," * 1_000_000 + "[]]}",
    "many tensors of nothing": "{" + ",".join(f'"{n}":{NOTHING}' for n in range(100_000)) + "}",
}


@pytest.mark.parametrize("name", SIZES)
def test_a_header_is_read_in_bounded_time_and_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header(SIZES[name]))
    imports = "from tasks.core.weights.safetensors_header import read_header"
    said = said_by_a_reader(imports, "read_header(Path(sys.argv[1]))", path)
    assert said == ("read" if "of nothing" in name else "CorruptWeights")


def test_a_header_of_the_greatest_length_that_lies_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(1 << 40)  # a hole
    with pytest.raises(CorruptWeights, match="longer than"):
        read_header(path)


def test_a_tokenizer_model_of_one_endless_number_is_read_in_bounded_time(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a" + b"\xff" * 3_000_000)
    imports = (
        "from tasks.core.weights.small_files_check import _require_whole_sentencepiece as check"
    )
    assert said_by_a_reader(imports, "check(Path(sys.argv[1]))", tmp_path / "tokenizer.model") in (
        "NotAModel",
        "read",
    )


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_waited_for(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    make(path)
    with pytest.raises(KawanUsahaError, match="not a file"):
        read_json_object(path)


def test_a_file_without_an_end_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(KawanUsahaError, match="too large"):
        read_json_object(path)
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(KawanUsahaError, match="not a file"):
        read_json_object(tmp_path / "zero")


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules", "rank_pattern"])
@pytest.mark.parametrize(
    "pattern", [r"(.*.*)*x", r"((a|b)+)+", "(?:a{9}){1000}", "a{1000000000}", "(x){2,}"]
)
def test_a_pattern_that_may_take_for_ever_is_refused(
    field: str, pattern: str, tmp_path: Path
) -> None:
    value = {pattern: 4} if field == "rank_pattern" else pattern
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, field: value}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterMismatch, match="unbounded time"):
        read_lora_config(tmp_path)


counts = st.one_of(st.integers(0, 4), st.sampled_from([-1, 2**31, 2**63, True, None, "1", 1.0]))
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "U8", "F4", "", None, 3]),
        "shape": st.lists(counts, max_size=3) | counts,
        "data_offsets": st.lists(counts, max_size=3) | counts,
        "other": counts,
    },
)


@settings(max_examples=EXAMPLES or 200)
@given(st.dictionaries(st.text(max_size=3), entries | counts, max_size=4), st.binary(max_size=64))
def test_what_a_header_says_lies_inside_the_file_or_is_refused(
    document: dict[str, object], data: bytes
) -> None:
    raw = json.dumps(document).encode()
    file_bytes = 8 + len(raw) + len(data)
    try:
        found = parse_header(raw, path=Path("model.safetensors"), file_bytes=file_bytes)
    except CorruptWeights:
        return
    end = 8 + len(raw)
    for entry in found:
        assert entry.offset == end
        end += entry.nbytes
    assert end == file_bytes
