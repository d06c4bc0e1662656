"""The sum must be FastChat's to the bit, whatever the dtype and form of the two sides."""

from pathlib import Path

import pytest
import torch
from fastchat.model.apply_delta import apply_delta
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.core.weights.merge import merge_delta
from tests.unit.weights.models import base_model, delta_for, same_bits, save, state_dict_of

DTYPES = ("float32", "float16", "bfloat16")


def _both(tmp_path: Path, base: Path, delta: Path) -> tuple[dict, dict]:
    apply_delta(str(base), str(tmp_path / "theirs"), str(delta))
    merge_delta(base, delta, tmp_path / "ours")
    return state_dict_of(tmp_path / "ours"), state_dict_of(tmp_path / "theirs")


@pytest.mark.parametrize("delta_dtype", DTYPES)
@pytest.mark.parametrize("base_dtype", DTYPES)
def test_every_pair_of_stored_dtypes_gives_the_bits_of_fastchat(tmp_path, base_dtype, delta_dtype):
    base = base_model(tmp_path / "base", dtype=base_dtype)
    delta = delta_for(base, tmp_path / "delta", dtype=delta_dtype)
    ours, theirs = _both(tmp_path, base, delta)
    assert same_bits(ours, theirs)


@pytest.mark.parametrize(
    ("base_form", "delta_form"),
    [("one", "many"), ("many", "one"), ("bins", "many"), ("many", "bin"), ("bin", "bins")],
)
def test_every_pair_of_forms_gives_the_bits_of_fastchat(tmp_path, base_form, delta_form):
    base = base_model(tmp_path / "base", form=base_form)
    delta = delta_for(base, tmp_path / "delta", form=delta_form)
    ours, theirs = _both(tmp_path, base, delta)
    assert same_bits(ours, theirs)


def test_the_bits_do_not_depend_on_threads_pieces_and_shards(tmp_path, monkeypatch):
    base = base_model(tmp_path / "base", form="many")
    delta = delta_for(base, tmp_path / "delta")
    merge_delta(base, delta, tmp_path / "plain", threads=1)
    monkeypatch.setattr("tasks.core.weights.layout.PIECE_BYTES", 1000)
    merge_delta(base, delta, tmp_path / "pieces", threads=5, max_shard_bytes=10_000)
    assert same_bits(state_dict_of(tmp_path / "plain"), state_dict_of(tmp_path / "pieces"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sum_is_taken_in_the_dtype_of_the_result(tmp_path, dtype):
    base = base_model(tmp_path / "base", dtype="float32")
    delta = delta_for(base, tmp_path / "delta", dtype="float32")
    merge_delta(base, delta, tmp_path / "out", dtype=dtype)
    as_dtype = getattr(torch, dtype)
    changes = state_dict_of(delta)
    expected = {
        name: tensor.to(as_dtype) + changes[name].to(as_dtype)
        for name, tensor in state_dict_of(base).items()
    }
    assert same_bits(state_dict_of(tmp_path / "out"), expected)


def test_inv_freq_leftovers_on_one_side_are_dropped_as_fastchat_does(tmp_path):
    base = base_model(tmp_path / "base")
    delta = delta_for(base, tmp_path / "delta")
    leftovers = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save(base, state_dict_of(base) | leftovers)
    ours, theirs = _both(tmp_path, base, delta)
    assert same_bits(ours, theirs)
    assert not ours.keys() & leftovers.keys()


def test_the_result_loads_in_transformers_with_config_and_tokenizer(tmp_path):
    base = base_model(tmp_path / "base", dtype="float32")
    delta = delta_for(base, tmp_path / "delta")
    merge_delta(base, delta, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == torch.float16
    assert same_bits(dict(model.state_dict()), state_dict_of(tmp_path / "out"))
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")("usaha").input_ids
    assert tokens == AutoTokenizer.from_pretrained(delta)("usaha").input_ids
