import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tasks.core.architecture.edits import edits_of
from tasks.core.architecture.proof import EditProof, ProofRequest, prove_edit
from tasks.core.architecture.prove import OVERHEAD_BYTES, WEIGHTS_FACTOR, make_proof
from tasks.core.errors import CorruptWeights, EditLost, RecipeError
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit
from tests.models import tiny_llama
from tests.unit.architecture.conftest import GELU_IN_THE_LAST

BOTH = Edit(
    activations=(ActivationEdit(layers=(1,), activation="relu"), ActivationEdit(layers=(-1,))),
    rope_scaling=RopeScalingEdit(rope_type="yarn", factor=4.0),
)


def _prove(
    model: Path, edit: Edit, unedited: Path | None = None, memory_bytes: int | None = None
) -> EditProof:
    """Make the proof in this process: quick, and open to the debugger."""
    request = ProofRequest(model=model, edit=edit, unedited=unedited, memory_bytes=memory_bytes)
    return make_proof(request)


def _failed(proof: EditProof) -> str:
    return "; ".join(f"{check.name} ({check.detail})" for check in proof.checks if not check.passed)


def _rewrite(model: Path, **members: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def test_lost_edit_fails_the_proof_in_the_fresh_process(stock: Path, edited: Path) -> None:
    _rewrite(edited, hidden_acts=["silu", "silu", "silu"])
    with pytest.raises(EditLost, match="layer 2 is SiLUActivation, not gelu"):
        prove_edit(edited, GELU_IN_THE_LAST, unedited=stock)


def test_model_that_does_not_load_fails_the_proof_with_the_reason(edited: Path) -> None:
    (edited / "modeling_kawan_usaha.py").unlink()
    with pytest.raises(EditLost, match=r"could not be loaded(.|\n)*modeling_kawan_usaha\.py"):
        prove_edit(edited, GELU_IN_THE_LAST)


def test_proof_that_takes_too_long_is_ended(edited: Path) -> None:
    with pytest.raises(EditLost, match="time limit"):
        prove_edit(edited, GELU_IN_THE_LAST, timeout_s=0.1)


def test_fresh_process_proves_the_edit(stock: Path, edited: Path) -> None:
    proof = prove_edit(edited, GELU_IN_THE_LAST, unedited=stock)
    assert proof.passed
    assert proof.seen == "the whole model"
    assert [row.after for row in proof.layers] == [
        "silu (SiLUActivation)",
        "silu (SiLUActivation)",
        "gelu (GELUActivation)",
    ]
    assert "| 2 | silu (SiLUActivation) | **gelu (GELUActivation)** |" in proof.table()
    assert EditProof.model_validate(json.loads(json.dumps(proof.as_json()))) == proof


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_edit_in_another_layer_than_the_recipe_s_fails(
    edited: Path, memory_bytes: int | None
) -> None:
    _rewrite(edited, hidden_acts=["silu", "gelu", "silu"])
    failed = _failed(_prove(edited, GELU_IN_THE_LAST, memory_bytes=memory_bytes))
    assert "layer 1 is GELUActivation, not silu; layer 2 is SiLUActivation, not gelu" in failed
    assert "bit for bit those of stock LLaMA edited in memory" in failed


def test_other_weights_than_the_unedited_model_s_fail(stock: Path, edited: Path) -> None:
    weights = load_file(stock / "model.safetensors")
    weights["model.embed_tokens.weight"] += 1
    save_file(weights, edited / "model.safetensors", {"format": "pt"})
    failed = _failed(_prove(edited, GELU_IN_THE_LAST, unedited=stock))
    assert "bit-equal hidden states before the edited place" in failed


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_missing_weight_is_an_error_and_not_an_initial_value(
    edited: Path, memory_bytes: int | None
) -> None:
    weights = load_file(edited / "model.safetensors")
    del weights["model.layers.2.mlp.gate_proj.weight"]
    save_file(weights, edited / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptWeights, match=r"model\.layers\.2\.mlp\.gate_proj\.weight"):
        _prove(edited, GELU_IN_THE_LAST, memory_bytes=memory_bytes)


def test_rope_that_was_not_scaled_fails(stock: Path, edit_into: Callable[..., Path]) -> None:
    edited = edit_into(stock, BOTH)
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    _rewrite(edited, rope_parameters=rope)
    assert "the rotary frequencies are those of yarn scaling by 4.0" in _failed(
        _prove(edited, BOTH)
    )


def test_proof_of_another_edit_than_the_model_can_have_is_refused(edited: Path) -> None:
    impossible = Edit(activations=(ActivationEdit(layers=(7,)),))
    with pytest.raises(RecipeError):
        _prove(edited, impossible)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_activations_and_rope_are_proven_together(
    tmp_path: Path, edit_into: Callable[..., Path], dtype: str, memory_bytes: int | None
) -> None:
    stock = tiny_llama(tmp_path / "stock", dtype=dtype, sharded=True)
    edited = edit_into(stock, BOTH)
    proof = _prove(edited, BOTH, memory_bytes=memory_bytes)
    assert proof.passed, _failed(proof)
    assert proof.dtype == ("float32" if memory_bytes is None else dtype)
    assert proof.difference > 0
    assert (proof.context_tokens_before, proof.context_tokens_after) == (2048, 8192)


def test_whole_model_is_proven_in_its_stored_type_where_memory_is_too_short_for_float32(
    tmp_path: Path, edit_into: Callable[..., Path]
) -> None:
    stock = tiny_llama(tmp_path / "stock", dtype="float16", hidden=64)
    weights_bytes = (stock / "model.safetensors").stat().st_size
    memory_bytes = int(OVERHEAD_BYTES + 1.5 * WEIGHTS_FACTOR * weights_bytes)
    proof = _prove(edit_into(stock), GELU_IN_THE_LAST, memory_bytes=memory_bytes)
    assert proof.passed, _failed(proof)
    assert (proof.seen, proof.dtype) == ("the whole model", "float16")


def test_model_that_does_not_fit_is_proven_on_each_edited_layer_alone(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    edit = Edit(activations=(ActivationEdit(layers=("1:",), activation="relu"),))
    proof = _prove(edit_into(stock, edit), edit, unedited=stock, memory_bytes=0)
    assert proof.passed, _failed(proof)
    assert proof.seen == "the edited layers alone"
    places = {check.name.split(":")[0] for check in proof.checks if check.name.startswith("layer")}
    assert places == {"layer 1", "layer 2"}


def test_tied_embeddings_are_proven(tmp_path: Path, edit_into: Callable[..., Path]) -> None:
    stock = tiny_llama(tmp_path / "stock", tie=True)
    assert _prove(edit_into(stock), GELU_IN_THE_LAST).passed


def test_first_look_is_at_the_first_edited_layer(stock: Path) -> None:
    from transformers import LlamaConfig

    activations, rope = edits_of(BOTH, LlamaConfig.from_pretrained(stock))
    assert activations.edited_layers == (1, 2)
    assert rope.edited_layers == (0,)
