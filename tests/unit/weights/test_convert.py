"""Conversion casts floats as torch does, keeps the rest, and stops at what does not fit."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.core.errors import CorruptWeights
from tasks.core.weights.convert import convert_dtype
from tests.unit.weights.models import base_model, same_bits, save, state_dict_of

DTYPES = ("float32", "float16", "bfloat16")


@pytest.mark.parametrize("after", DTYPES)
@pytest.mark.parametrize("before", DTYPES)
def test_every_pair_of_dtypes_gives_the_bits_of_torch(tmp_path, before, after):
    model = base_model(tmp_path / "model", dtype=before, form="bins")
    convert_dtype(model, tmp_path / "out", dtype=after)
    expected = {n: t.to(getattr(torch, after)) for n, t in state_dict_of(model).items()}
    assert same_bits(state_dict_of(tmp_path / "out"), expected)


def test_integers_and_booleans_keep_their_type_and_bits(tmp_path):
    model = base_model(tmp_path / "model")
    others = {
        "steps": torch.arange(7),
        "mask": torch.tensor([True, False, True]),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(1.5),
    }
    save(model, state_dict_of(model) | others)
    convert_dtype(model, tmp_path / "out", dtype="float32")
    out = state_dict_of(tmp_path / "out")
    assert same_bits({name: out[name] for name in others}, others)


def test_a_number_beyond_the_new_dtype_stops_it_with_the_name(tmp_path):
    model = base_model(tmp_path / "model", dtype="float32")
    state_dict = state_dict_of(model)
    state_dict["model.norm.weight"][0] = 70_000.0
    save(model, state_dict)
    with pytest.raises(CorruptWeights) as caught:
        convert_dtype(model, tmp_path / "out", dtype="float16")
    assert caught.value.where == "model.norm.weight"


def test_the_largest_finite_numbers_are_not_mistaken_for_infinity(tmp_path):
    model = base_model(tmp_path / "model", dtype="float32")
    state_dict = state_dict_of(model)
    state_dict["lm_head.weight"][:] = torch.finfo(torch.float32).max
    save(model, state_dict)
    convert_dtype(model, tmp_path / "out", dtype="float32")
    assert same_bits(state_dict_of(tmp_path / "out"), state_dict)


def test_a_converted_bin_model_loads_as_safetensors_in_its_new_dtype(tmp_path):
    model = base_model(tmp_path / "model", dtype="float32", form="bin")
    written = convert_dtype(model, tmp_path / "out", dtype="bfloat16", max_shard_bytes=10_000)
    assert not [name for name in written.files if name.endswith(".bin")]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert loaded.dtype == torch.bfloat16
