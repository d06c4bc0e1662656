import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.activations import ACT2FN

from tasks.core.architecture.edits.activations import LEARNED
from tasks.core.architecture.edits.kinds import architecture_edits
from tasks.core.architecture.proof.edit_proof import EditProof, ProofRequest, prove_edit
from tasks.core.architecture.proof.entry import make_proof
from tasks.core.architecture.proof.whole_model import OVERHEAD_BYTES, WEIGHTS_FACTOR
from tasks.core.errors import CorruptWeights, EditLost, RecipeError
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit
from tests.models import tiny_llama
from tests.unit.architecture.conftest import GELU_IN_THE_LAST

pytestmark = pytest.mark.usefixtures("preforked_children")

BOTH = Edit(
    activations=(ActivationEdit(layers=(1,), activation="relu"), ActivationEdit(layers=(-1,))),
    rope_scaling=RopeScalingEdit(rope_type="yarn", factor=4.0),
)
USABLE = sorted(set(ACT2FN) - LEARNED)


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


def _with_weights(stock: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """Change all linear weights of the layers."""
    weights = load_file(stock / "model.safetensors")
    changed = {
        name: change(weight).to(weight.dtype) if "proj" in name else weight
        for name, weight in weights.items()
    }
    save_file(changed, stock / "model.safetensors", {"format": "pt"})
    return stock


def _small(stock: Path) -> Path:
    """Make the weights so small that no activation and no rotation shows in a logit."""
    return _with_weights(stock, lambda weight: weight * 1e-4)


def test_lost_edit_fails_the_proof_in_the_fresh_process(stock: Path, edited: Path) -> None:
    _rewrite(edited, hidden_acts=["silu", "silu", "silu"])
    with pytest.raises(EditLost, match="layer 2 is SiLUActivation, not gelu"):
        prove_edit(edited, GELU_IN_THE_LAST, unedited=stock)


def test_model_that_does_not_load_fails_the_proof_with_the_reason(edited: Path) -> None:
    (edited / "modeling_kawan_usaha.py").unlink()
    with pytest.raises(EditLost, match=r"could not be loaded(.|\n)*modeling_kawan_usaha\.py"):
        prove_edit(edited, GELU_IN_THE_LAST)


@pytest.mark.usefixtures("real_children")
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
    assert (
        "logits: equal to those of stock LLaMA" in failed or "layer 2: equal to those of" in failed
    )


def test_other_weights_than_the_unedited_model_s_fail(stock: Path, edited: Path) -> None:
    weights = load_file(stock / "model.safetensors")
    weights["model.embed_tokens.weight"] += 1
    save_file(weights, edited / "model.safetensors", {"format": "pt"})
    failed = _failed(_prove(edited, GELU_IN_THE_LAST, unedited=stock))
    assert "hidden states before the edited place unchanged" in failed


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

    activations, rope = architecture_edits(BOTH, LlamaConfig.from_pretrained(stock))
    assert activations.edited_layers == (1, 2)
    assert rope.edited_layers == (0,)


@pytest.mark.parametrize("activation", [name for name in USABLE if name not in ("silu", "swish")])
def test_every_activation_is_proven_at_its_module_however_small_the_weights_are(
    stock: Path, edit_into: Callable[..., Path], activation: str
) -> None:
    edit = Edit(activations=(ActivationEdit(layers=(-1,), activation=activation),))
    proof = _prove(edit_into(_small(stock), edit), edit, unedited=stock)
    assert proof.passed, _failed(proof)
    assert (proof.probe_difference or 0) > 0


@pytest.mark.parametrize(
    ("memory_bytes", "dtype"), [(None, "float16"), (0, "float16"), (0, "bfloat16")]
)
@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
def test_every_rope_scaling_is_proven_at_its_module_however_small_the_weights_are(
    tmp_path: Path,
    edit_into: Callable[..., Path],
    rope_type: str,
    memory_bytes: int | None,
    dtype: str,
) -> None:
    stock = _small(tiny_llama(tmp_path / "stock", dtype=dtype))
    scaling = RopeScalingEdit.model_validate({"rope_type": rope_type, "factor": 4})
    edit = Edit(activations=(), rope_scaling=scaling)
    proof = _prove(edit_into(stock, edit), edit, unedited=stock, memory_bytes=memory_bytes)
    assert proof.passed, _failed(proof)
    assert proof.difference == 0
    assert (proof.probe_difference or 0) > 0
    assert "the attention scores are too small" in "".join(proof.warnings)


@pytest.mark.parametrize(
    ("memory_bytes", "place", "what"),
    [(None, "logits", "logits"), (0, "layer 2", "hidden states")],
)
def test_edit_that_moves_nothing_is_told_with_the_values_that_its_activation_gets(
    tmp_path: Path,
    edit_into: Callable[..., Path],
    memory_bytes: int | None,
    place: str,
    what: str,
) -> None:
    stock = _small(tiny_llama(tmp_path / "stock", dtype="float32"))
    edited = edit_into(stock)
    proof = _prove(edited, GELU_IN_THE_LAST, unedited=stock, memory_bytes=memory_bytes)
    assert proof.passed, _failed(proof)
    (warning,) = proof.warnings
    assert warning.startswith(f"{place}: no difference from the unedited model in float32")
    assert "where gelu and silu are at most" in warning
    assert warning in proof.table()
    assert f"{what} 0, the edited modules on a probe" in proof.table()


def test_functions_that_part_only_beyond_the_values_of_the_prompt_are_told_apart(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    _rewrite(stock, hidden_act="gelu")
    edit = Edit(activations=(ActivationEdit(layers=("all",), activation="gelu_10"),))
    proof = _prove(edit_into(stock, edit), edit, unedited=stock)
    assert proof.passed, _failed(proof)
    assert proof.difference == 0
    assert "gelu_10 and gelu are at most 0 apart" in "".join(proof.warnings)


def test_weights_that_let_nothing_of_the_edit_through_are_told(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    _with_weights(stock, torch.zeros_like)
    proof = _prove(edit_into(stock), GELU_IN_THE_LAST, unedited=stock)
    assert proof.passed, _failed(proof)
    assert (proof.difference, proof.probe_difference) == (0, 0)
    assert "the weights there let nothing of the edit through" in "".join(proof.warnings)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_model_whose_logits_are_no_numbers_is_told_and_its_edit_proven(
    tmp_path: Path, edit_into: Callable[..., Path], value: float
) -> None:
    stock = tiny_llama(tmp_path / "stock", dtype="float32")
    _with_weights(stock, lambda weight: torch.full_like(weight, value))
    proof = _prove(edit_into(stock), GELU_IN_THE_LAST, unedited=stock)
    assert proof.passed, _failed(proof)
    assert "not all values are finite numbers" in "".join(proof.warnings)
    assert EditProof.model_validate_json(proof.model_dump_json()) == proof


def test_code_that_does_not_use_its_activation_is_found_where_no_logit_shows_it(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    edited = edit_into(_small(stock))
    with (edited / "modeling_kawan_usaha.py").open("a") as file:
        file.write(
            "from transformers.models.llama.modeling_llama import LlamaMLP\n"
            "LlamaMLP.forward = lambda self, x: self.down_proj(\n"
            "    torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))\n"
        )
    with pytest.raises(EditLost, match="on a probe, the edited modules equal"):
        prove_edit(edited, GELU_IN_THE_LAST, unedited=stock)


def test_proof_of_an_earlier_version_is_read(stock: Path, edited: Path) -> None:
    plain = _prove(edited, GELU_IN_THE_LAST).as_json()
    del plain["probe_difference"], plain["warnings"]
    earlier = EditProof.model_validate(plain)
    assert earlier.probe_difference is None
    assert "on a probe" not in earlier.table().split("\n\n")[1]
