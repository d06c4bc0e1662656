"""A DoRA adapter is fused as PEFT does, in rows and in columns, or refused for what is missing."""

from pathlib import Path

import pytest
import torch

from tasks.core.errors import AdapterMismatch
from tasks.core.weights.fuse import fuse_adapter
from tasks.core.weights.reader import TensorReader
from tests.unit.weights.adapters import (
    assert_within_one_rounding,
    configure,
    fused_by_peft,
    rewrite,
    train,
)
from tests.unit.weights.models import (
    base_model,
    gpt2,
    same_bits,
    save,
    small_base_model,
    state_dict_of,
)


@pytest.fixture
def model(tmp_path) -> Path:
    return base_model(tmp_path / "model", dtype="float32")


def _assert_fused_as_peft(
    model: Path, adapter: Path, out: Path, *, roundings: int = 1, threads: int | None = None
) -> None:
    fuse_adapter(model, adapter, out, threads=threads)
    ours, theirs = state_dict_of(out), fused_by_peft(model, adapter)
    assert_within_one_rounding(model, ours, theirs, more=roundings)
    assert not same_bits(ours, state_dict_of(model))


@pytest.mark.parametrize("form", ["one", "many", "bins"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_dtype_and_form_is_fused_as_peft_does(tmp_path, monkeypatch, dtype, form):
    model = small_base_model(tmp_path / "model", dtype=dtype, form=form)
    targets = ["q_proj", "down_proj", "embed_tokens"]
    adapter = train(model, tmp_path / "adapter", use_dora=True, target_modules=targets)
    monkeypatch.setattr("tasks.core.weights.layout.PIECE_BYTES", 100)  # a row in several pieces
    monkeypatch.setattr("tasks.core.weights.fusing.PIECE_BYTES", 1000)  # columns in several blocks
    _assert_fused_as_peft(model, adapter, tmp_path / "out", threads=1)


OPTIONS = {
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"layers.1.self_attn.q_proj": 2},
        "alpha_pattern": {"v_proj": 3},
        "target_modules": ["q_proj", "v_proj"],
    },
    "all linear": {"target_modules": "all-linear"},
    "head": {"target_modules": ["lm_head"]},
    "pissa": {"init_lora_weights": "pissa"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_option_of_peft_means_the_same_with_dora(tmp_path, model, options):
    adapter = train(model, tmp_path / "adapter", use_dora=True, **options)
    _assert_fused_as_peft(model, adapter, tmp_path / "out")


def test_conv1d_is_scaled_by_its_columns(tmp_path):
    model = gpt2(tmp_path / "model", tie_word_embeddings=False)
    targets = ["c_attn", "c_proj", "lm_head"]
    adapter = train(model, tmp_path / "adapter", use_dora=True, target_modules=targets)
    _assert_fused_as_peft(model, adapter, tmp_path / "out")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_where_peft_is_exact_the_bits_are_peft_s(tmp_path, dtype):
    """Weights and update are so few bits wide that sums and squares are exact in every order.

    What is left is rounded once a step, in the wider type: root, quotient, product.
    """
    model = base_model(tmp_path / "model", dtype="float32")
    generator = torch.Generator().manual_seed(6)

    def coarse(tensor: torch.Tensor, steps: int, unit: float) -> torch.Tensor:
        return torch.randint(-steps, steps + 1, tensor.shape, generator=generator) * unit

    matrices = {n: coarse(t, 16, 2.0**-5) for n, t in state_dict_of(model).items() if t.ndim == 2}
    save(model, {**state_dict_of(model), **matrices}, dtype=dtype)
    targets = ["q_proj", "down_proj", "embed_tokens"]
    adapter = train(model, tmp_path / "adapter", use_dora=True, target_modules=targets)
    rewrite(
        adapter,
        lambda tensors: {
            name: 2 + coarse(tensor, 64, 2.0**-6)
            if "magnitude" in name
            else coarse(tensor, 2, 2.0**-3)
            if ".lora_" in name
            else tensor
            for name, tensor in tensors.items()
        },
    )
    fuse_adapter(model, adapter, tmp_path / "out")
    ours, theirs = state_dict_of(tmp_path / "out"), fused_by_peft(model, adapter)
    assert same_bits(ours, theirs)
    assert not same_bits(ours, state_dict_of(model))


def test_a_magnitude_may_be_named_as_a_layer_s_weight(tmp_path, model):
    adapter = train(model, tmp_path / "adapter", use_dora=True)
    fuse_adapter(model, adapter, tmp_path / "one")
    rewrite(adapter, lambda t: {n + ".weight" if "magnitude" in n else n: v for n, v in t.items()})
    fuse_adapter(model, adapter, tmp_path / "two")
    assert same_bits(state_dict_of(tmp_path / "one"), state_dict_of(tmp_path / "two"))


Q = "base_model.model.model.layers.0.self_attn.q_proj"
M = f"{Q}.lora_magnitude_vector"
FAULTS = {
    "no magnitudes": (
        lambda t: {n: v for n, v in t.items() if "magnitude" not in n},
        "has no lora_magnitude_vector",
    ),
    "one missing": (
        lambda t: {n: v for n, v in t.items() if n != M},
        "has no lora_magnitude_vector",
    ),
    "layer 0 alone": (lambda t: {n: v for n, v in t.items() if ".0." in n}, "found: 2 without one"),
    "a magnitude alone": (
        lambda t: {n: v for n, v in t.items() if n == M or Q not in n},
        "A or B is missing",
    ),
    "another shape": (lambda t: {**t, M: torch.ones(31)}, r"is \[31\], but B has 32 rows"),
    "a matrix": (lambda t: {**t, M: torch.ones(32, 1)}, r"is \[32, 1\]"),
    "twice": (lambda t: {**t, f"{M}.weight": torch.ones(32)}, "twice"),
    "the adapter's name": (
        lambda t: {f"{n}.default" if n == M else n: v for n, v in t.items()},
        "remove `.default` from the names",
    ),
    "ZeRO-3's leftovers": (lambda t: {**t, M: torch.zeros(0)}, "ZeRO-3"),
}


@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_magnitudes_that_are_missing_or_wrong_are_told_by_their_cause(
    tmp_path, model, change, words
):
    adapter = train(model, tmp_path / "adapter", use_dora=True)
    rewrite(adapter, change)
    with pytest.raises(AdapterMismatch, match=words):
        fuse_adapter(model, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_magnitudes_without_use_dora_are_refused(tmp_path, model):
    adapter = train(model, tmp_path / "adapter", use_dora=True)
    configure(adapter, "adapter_config.json", use_dora=False)
    with pytest.raises(AdapterMismatch, match="use_dora is false"):
        fuse_adapter(model, adapter, tmp_path / "out")


@pytest.mark.parametrize("targets", [["down_proj"], ["embed_tokens"]])
def test_no_weight_is_read_whole(tmp_path, model, monkeypatch, targets):
    adapter = train(model, tmp_path / "adapter", use_dora=True, target_modules=targets)
    for module in ("layout", "fusing"):
        monkeypatch.setattr(f"tasks.core.weights.{module}.PIECE_BYTES", 1000)
    read, reads = TensorReader.read, []

    def counted(reader: TensorReader, name: str, start: int, stop: int) -> torch.Tensor:
        if ".lora_" not in name:
            reads.append((stop - start) * 4)
        return read(reader, name, start, stop)

    monkeypatch.setattr(TensorReader, "read", counted)
    fuse_adapter(model, adapter, tmp_path / "out")
    assert max(reads) <= 1000


def test_a_row_that_is_read_again_outlives_the_decomposition_of_its_weight(tmp_path, monkeypatch):
    """PiSSA with DoRA, a row in several pieces: both read the weight, one inside of the other."""
    model = small_base_model(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter", use_dora=True, init_lora_weights="pissa")
    monkeypatch.setattr("tasks.core.weights.layout.PIECE_BYTES", 100)
    monkeypatch.setattr("tasks.core.weights.fusing.PIECE_BYTES", 1000)
    _assert_fused_as_peft(model, adapter, tmp_path / "out", roundings=2)
