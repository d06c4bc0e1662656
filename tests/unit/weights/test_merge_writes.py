"""What a merge leaves on the disk: every file once, with its digest, and nothing else."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from tasks.core.errors import DiskFull
from tasks.core.files.digests import digest_of
from tasks.core.weights import direct
from tasks.core.weights.merge import merge_delta, plan_merge
from tests.unit.weights.models import base_model, delta_for


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    base = base_model(tmp_path / "base")
    return base, delta_for(base, tmp_path / "delta")


def test_a_disk_without_room_is_refused_before_the_first_byte(tmp_path, pair, monkeypatch):
    monkeypatch.setattr("tasks.core.files.disk_space.free_bytes", lambda _: 1000)
    with pytest.raises(DiskFull, match="not enough space"):
        merge_delta(*pair, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_fills_up_after_the_check_is_reported_with_figures(tmp_path, pair, monkeypatch):
    def no_space(fd: int, size_bytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(direct, "_claim_room", no_space)
    with pytest.raises(DiskFull) as caught:
        merge_delta(*pair, tmp_path / "out")
    assert "GB free" in caught.value.found


def test_the_digests_are_those_of_every_file_in_the_directory(tmp_path, pair):
    written = merge_delta(*pair, tmp_path / "out", max_shard_bytes=10_000)
    on_disk = {path.name: digest_of(path) for path in (tmp_path / "out").iterdir()}
    assert written.files == on_disk
    assert written.shards_written == sum(name.endswith(".safetensors") for name in on_disk) > 1


def test_the_counts_are_those_of_the_model(tmp_path, pair):
    written = merge_delta(*pair, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - no mapping
        assert file.metadata() == {"format": "pt"}
    assert written.tensors == len(tensors)
    assert written.parameters == sum(tensor.numel() for tensor in tensors)
    assert written.weight_bytes == 2 * written.parameters


def test_the_index_file_names_the_shard_of_every_tensor(tmp_path, pair):
    out = tmp_path / "out"
    merge_delta(*pair, out, max_shard_bytes=10_000)
    document = json.loads((out / "model.safetensors.index.json").read_text())
    for name, shard in document["weight_map"].items():
        with safe_open(out / shard, "pt") as file:
            assert name in file.keys()  # noqa: SIM118 - no mapping
    assert document["metadata"]["total_size"] == plan_merge(*pair).layout.total_bytes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"dtype": "float32"}, {"dtype": "bfloat16"}),
        ({"torch_dtype": "float32"}, {"torch_dtype": "bfloat16"}),
        ({}, {"torch_dtype": "bfloat16"}),
    ],
)
def test_config_keeps_its_fields_and_names_the_new_dtype(tmp_path, pair, before, after):
    path = pair[0] / "config.json"
    rest = {k: v for k, v in json.loads(path.read_text()).items() if k != "dtype"}
    path.write_text(json.dumps(rest | before))
    merge_delta(*pair, tmp_path / "out", dtype="bfloat16")
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == rest | after


def test_tokenizer_comes_from_the_delta_code_and_licence_from_the_base(tmp_path, pair):
    base, delta = pair
    (base / "modeling_own.py").write_text("own = 1\n")
    (base / "LICENSE.txt").write_text("terms\n")
    (base / "tokenizer.model").write_bytes(b"the base's")
    (base / "training.log").write_text("not part of the model")
    merge_delta(base, delta, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == b"a sentencepiece model"
    assert (tmp_path / "out" / "modeling_own.py").read_text() == "own = 1\n"
    assert (tmp_path / "out" / "LICENSE.txt").read_text() == "terms\n"
    assert not (tmp_path / "out" / "training.log").exists()


def test_all_that_goes_with_a_model_goes_with_the_merged_one(tmp_path, pair):
    base, delta = pair
    for side in pair:
        (side / "additional_chat_templates").mkdir()
        (side / "additional_chat_templates" / "tool_use.jinja").write_text(side.name)
        (side / "chat_template.jinja").write_text(side.name)
        (side / "USE_POLICY.md").write_text(side.name)
        (side / "adapter_config.json").write_text("{}")
        (side / "README.md").write_text("A card of its own.")
    merge_delta(base, delta, tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "additional_chat_templates" / "tool_use.jinja").read_text() == "delta"
    assert (out / "chat_template.jinja").read_text() == "delta"
    assert (out / "USE_POLICY.md").read_text() == "base"
    assert not (out / "adapter_config.json").exists()
    assert not (out / "README.md").exists()


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "modeling_x.py", "code/x.py", "added_tokens.json"]
)
def test_what_lay_in_the_output_before_is_not_adopted(tmp_path, pair, name):
    stranger = tmp_path / "out" / name
    stranger.parent.mkdir(parents=True)
    stranger.write_text("another's")
    written = merge_delta(*pair, tmp_path / "out")
    assert name in written.files or not stranger.exists()
    found = {
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert found == written.files.keys()


PEAKS_OF_MERGES = """
import sys
from pathlib import Path
from tasks.core.weights.merge import merge_delta
for directory in sys.argv[1:]:
    # As many on each machine: a thread's buffers are 6 MB.
    merge_delta(*(Path(directory, name) for name in ("base", "delta", "out")), threads=2)
    # Not ru_maxrss, which a child inherits from the process that started it.
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def test_memory_does_not_grow_with_the_model(tmp_path):
    places = []
    for vocab in (1_000, 100_000):  # 1 MB against 100 MB in both sides together
        places.append(tmp_path / str(vocab))
        base = base_model(places[-1] / "base", hidden=128, vocab=vocab)
        delta_for(base, places[-1] / "delta")
    child = subprocess.run(
        [sys.executable, "-c", PEAKS_OF_MERGES, *map(str, places)], check=True, capture_output=True
    )
    small, large = (int(peak) * 1024 for peak in child.stdout.split())
    assert large < 500e6
    assert large - small < 30e6
