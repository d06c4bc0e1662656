"""An index is complete and inside its directory, or the directory is refused with the reason."""

import json
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


def test_an_index_that_names_no_file_is_refused(sharded):
    _edit_weight_map(sharded, **{"lm_head.weight": 3})
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


def test_shards_without_an_index_file_are_read_when_all_are_there(sharded):
    with_index = read_index(sharded)
    (sharded / "model.safetensors.index.json").unlink()
    assert read_index(sharded).tensors == with_index.tensors


def test_shards_without_an_index_file_are_refused_when_one_is_missing(sharded):
    (sharded / "model.safetensors.index.json").unlink()
    (sharded / "model-00004-of-00004.safetensors").unlink()
    with pytest.raises(CorruptWeights, match="not all there"):
        read_index(sharded)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    for number in (1, 2):
        shard = tmp_path / f"model-0000{number}-of-00002.safetensors"
        save_file({"twice": torch.ones(2)}, shard)
    with pytest.raises(CorruptWeights, match="two files"):
        read_index(tmp_path)


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


def test_the_fingerprint_changes_when_a_file_is_written_again(tmp_path):
    model = base_model(tmp_path / "model")
    before = read_index(model).fingerprint()
    assert read_index(model).fingerprint() == before
    save(model, state_dict_of(model))
    assert read_index(model).fingerprint() != before
