"""A `.bin` file gives the places of its tensors, and never a chance to run code."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from tasks.core.errors import CorruptWeights, NotAModel, UnsafeWeights
from tasks.core.weights.index import read_index
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.torch_bin import read_bin


class RunsCode:
    """Unpickles to a call that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (os.system, (f"touch {self.trace}",))


def test_a_malicious_pickle_is_refused_with_its_reason_and_not_run(tmp_path):
    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    torch.save({"weight": torch.ones(2), "payload": RunsCode(trace)}, path)
    with pytest.raises(UnsafeWeights, match=r"posix\.system"):
        read_bin(path)
    assert not trace.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    path.write_bytes(pickle.dumps(RunsCode(trace)))
    with pytest.raises(NotAModel, match="bare pickle"):
        read_bin(path)
    assert not trace.exists()


def test_the_format_before_torch_1_6_is_refused_with_a_way_out(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(NotAModel, match="save it as safetensors"):
        read_bin(path)


def test_every_kind_of_truncation_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.ones(50)}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptWeights):
            read_bin(path)


@pytest.mark.parametrize(
    ("at", "new"),
    [(6, b"\xff\xff"), (46, b"\xff")],
    ids=["a version of the future", "a name that is not UTF-8"],
)
def test_a_zip_whose_directory_is_odd_is_refused(tmp_path, at, new):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.ones(50)}, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + at : entry + at + len(new)] = new
    path.write_bytes(content)
    with pytest.raises(CorruptWeights, match="not a valid zip file"):
        read_bin(path)


def test_compressed_records_are_refused(tmp_path):
    plain, packed = tmp_path / "plain.bin", tmp_path / "packed.bin"
    torch.save({"weight": torch.ones(50)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in source.namelist():
            out.writestr(name, source.read(name))
    with pytest.raises(CorruptWeights, match="compressed"):
        read_bin(packed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(1)], "not a dictionary"),
        ({"step": 3}, "something other than named tensors"),
        ({"nested": {"weight": torch.ones(1)}}, "something other than named tensors"),
        ({"complex": torch.ones(1, dtype=torch.complex64)}, "unknown dtype"),
        ({"sparse": torch.ones(2).to_sparse()}, "unknown dtype or layout"),
    ],
)
def test_what_is_no_plain_state_dict_is_refused(tmp_path, content, reason):
    path = tmp_path / "pytorch_model.bin"
    torch.save(content, path)
    with pytest.raises(CorruptWeights, match=reason):
        read_bin(path)


VIEWS = {
    "transposed": torch.arange(12.0).reshape(3, 4).t(),
    "every second column": torch.arange(12.0).reshape(3, 4)[:, ::2],
    "rows and columns": torch.arange(60.0).reshape(5, 12)[1:4, 2:9:3],
    "repeated": torch.arange(3.0).expand(4, 3),
    "turned": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_a_tensor_whose_elements_do_not_lie_in_a_row_is_read_all_the_same(tmp_path, view):
    torch.save({"before": torch.ones(5), "view": view}, tmp_path / "pytorch_model.bin")
    with TensorReader(read_index(tmp_path)) as reader:
        assert torch.equal(reader.load("view"), view)
        assert torch.equal(reader.read("view", 2, 5), view.reshape(-1)[2:5])
        assert torch.equal(reader.load("before"), torch.ones(5))


def test_a_storage_that_points_outside_its_record_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.arange(1000, dtype=torch.float32)}, path)
    forged = path.read_bytes().replace(b"M\xe8\x03", b"M\xe9\x03")  # 1000 -> 1001 in the pickle
    assert forged != path.read_bytes()
    path.write_bytes(forged)
    with pytest.raises(CorruptWeights):
        read_bin(path)


def test_tied_sliced_and_parameter_tensors_lie_where_torch_finds_them(tmp_path):
    weight = torch.randn(6, 4)
    state_dict = {
        "weight": weight,
        "tied": weight,
        "rows": weight[2:4],
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(7),
    }
    path = tmp_path / "pytorch_model.bin"
    torch.save(state_dict, path)
    data = path.read_bytes()
    entries = {entry.name: entry for entry in read_bin(path)}
    assert entries.keys() == state_dict.keys()
    for name, tensor in state_dict.items():
        entry = entries[name]
        stored = data[entry.offset : entry.offset + entry.nbytes]
        assert stored == bytes(tensor.detach().reshape(-1).view(torch.uint8).tolist())
        assert entry.shape == tuple(tensor.shape)
    assert entries["tied"].offset == entries["weight"].offset
