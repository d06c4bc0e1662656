"""An index is complete and inside its directory, or the directory is refused with the reason."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tasks.core.errors import CorruptWeights, NotAModel, UnsafeWeights
from tasks.core.weights.index import read_index
from tests.unit.weights.models import base_model, save, state_dict_of


@pytest.fixture
def sharded(tmp_path) -> Path:
    return base_model(tmp_path / "model", form="many")


def _edit_weight_map(model: Path, **changes: object) -> None:
    path = model / "model.safetensors.index.json"
    document = json.loads(path.read_text())
    document["weight_map"].update(changes)
    path.write_text(json.dumps(document))


def test_a_directory_that_does_not_exist_is_no_model(tmp_path):
    with pytest.raises(NotAModel, match="no such directory"):
        read_index(tmp_path / "nowhere")


def test_a_directory_without_weights_is_no_model_and_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NotAModel, match=r"notes\.txt"):
        read_index(tmp_path)


def test_an_index_that_names_a_missing_file_is_refused(sharded):
    (sharded / "model-00002-of-00004.safetensors").unlink()
    with pytest.raises(CorruptWeights, match="model-00002-of-00004"):
        read_index(sharded)


@pytest.mark.parametrize("path", ["../other.safetensors", "/etc/passwd", "a/../../b", "..\\b"])
def test_an_index_that_leaves_the_directory_is_unsafe(sharded, path):
    _edit_weight_map(sharded, **{"lm_head.weight": path})
    with pytest.raises(UnsafeWeights, match="outside"):
        read_index(sharded)


@pytest.mark.parametrize("name", [3, "", "x" * 5000], ids=["number", "empty", "too long"])
def test_an_index_that_names_no_file_is_refused(sharded, name):
    _edit_weight_map(sharded, **{"lm_head.weight": name})
    with pytest.raises(CorruptWeights, match="lm_head"):
        read_index(sharded)


def test_an_index_with_a_tensor_that_no_shard_holds_is_refused(sharded):
    _edit_weight_map(sharded, ghost="model-00001-of-00004.safetensors")
    with pytest.raises(CorruptWeights, match="ghost"):
        read_index(sharded)


def test_an_index_that_puts_a_tensor_into_the_wrong_shard_is_refused(sharded):
    entry = read_index(sharded).tensors["lm_head.weight"]
    other = next(file for file in read_index(sharded).files if file != entry.file)
    _edit_weight_map(sharded, **{"lm_head.weight": other})
    with pytest.raises(CorruptWeights, match="disagree"):
        read_index(sharded)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": {}}', '{"weight_map": []}'])
def test_an_index_file_without_a_weight_map_is_refused(sharded, content):
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CorruptWeights):
        read_index(sharded)


def test_shards_without_an_index_file_are_refused_and_the_file_is_named(sharded):
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(NotAModel, match=r"no index file(.|\n)*model\.safetensors\.index\.json"):
        read_index(sharded)


def test_a_tensor_in_two_shards_is_refused(sharded):
    names = read_index(sharded).files[:2]
    for name in names:
        save_file({"twice": torch.ones(2)}, sharded / name)
    listing = {"weight_map": {"twice": names[0], "again": names[1]}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(listing))
    with pytest.raises(CorruptWeights, match="two files"):
        read_index(sharded)


NAMES = {
    "another width of the total": "model-{}-of-000004.safetensors",
    "underscore": "model_0000{}-of-00004.safetensors",
    "counted from zero": "model-0000{}-of-00004.safetensors",
    "no numbers at all": "part {} of mine.safetensors",
    "below a directory": "weights/{}.safetensors",
}


@pytest.mark.parametrize("pattern", NAMES.values(), ids=NAMES.keys())
def test_shards_may_be_called_anything_that_their_index_names(sharded, pattern):
    expected = state_dict_of(sharded)
    listing = sharded / "model.safetensors.index.json"
    document = json.loads(listing.read_text())
    first = 0 if "zero" in pattern else 1
    renamed = {}
    for number, old in enumerate(sorted(set(document["weight_map"].values())), start=first):
        new = sharded / pattern.format(number)
        new.parent.mkdir(exist_ok=True)
        (sharded / old).rename(new)
        renamed[old] = pattern.format(number)
    document["weight_map"] = {name: renamed[file] for name, file in document["weight_map"].items()}
    listing.write_text(json.dumps(document))
    assert read_index(sharded).tensors.keys() == expected.keys()


def test_a_stray_shard_beside_a_whole_set_is_no_part_of_the_model(sharded):
    expected = read_index(sharded).tensors
    save_file({"stray": torch.ones(2)}, sharded / "model-00001-of-00003.safetensors")
    save_file({"stray": torch.ones(2)}, sharded / "model-00005-of-00004.safetensors")
    assert read_index(sharded).tensors == expected


def test_a_stray_shard_without_an_index_does_not_hide_a_whole_bin(tmp_path):
    model = base_model(tmp_path / "model", form="bin")
    expected = read_index(model).tensors
    save_file({"stray": torch.ones(2)}, model / "model-00001-of-00003.safetensors")
    assert read_index(model).tensors == expected


def test_an_incomplete_set_is_passed_over_for_a_whole_one_in_the_other_format(sharded):
    state_dict = state_dict_of(sharded)
    (sharded / "model-00002-of-00004.safetensors").unlink()
    torch.save(state_dict, sharded / "pytorch_model.bin")
    assert read_index(sharded).files == ("pytorch_model.bin",)


def test_a_shard_that_is_a_link_into_a_cache_is_read(tmp_path):
    blob = base_model(tmp_path / "cache") / "model.safetensors"
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(blob)
    assert "lm_head.weight" in read_index(tmp_path / "snapshot").tensors


@pytest.mark.parametrize("form", ["one", "many", "bin", "bins"])
def test_every_tensor_lies_where_the_index_says(tmp_path, form):
    model = base_model(tmp_path / "model", form=form)
    index = read_index(model)
    expected = state_dict_of(model)
    assert index.tensors.keys() == expected.keys()
    for name, entry in index.tensors.items():
        data = (model / entry.file).read_bytes()[entry.offset : entry.offset + entry.nbytes]
        assert torch.frombuffer(bytearray(data), dtype=torch.float16).equal(
            expected[name].flatten()
        )
        assert entry.shape == tuple(expected[name].shape)
    assert index.total_bytes == sum(tensor.nbytes for tensor in expected.values())


def test_safetensors_win_over_bin_files_beside_them(tmp_path):
    model = base_model(tmp_path / "model")
    torch.save({"other": torch.ones(1)}, model / "pytorch_model.bin")
    assert read_index(model).format == "safetensors"


def test_the_identity_changes_when_a_file_is_written_again(tmp_path):
    model = base_model(tmp_path / "model")
    os.utime(model / "model.safetensors", ns=(1, 1))  # a file system's clock may be coarse
    before = read_index(model).identity()
    assert read_index(model).identity() == before
    save(model, state_dict_of(model))
    assert read_index(model).identity() != before
