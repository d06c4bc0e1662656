"""What is put down beside an edited model, of which weights, and where it goes with them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.proof.edit_proof import prove_edit
from tasks.core.architecture.renew_edit_fingerprint import renew_fingerprint
from tasks.core.errors import EditLost
from tasks.core.hub.download.local_copy import copy_directory
from tasks.core.hub.publish.allow_list import choose_to_publish
from tasks.core.model.edit_fingerprint import (
    FINGERPRINT_FILE,
    EditFingerprint,
    put_fingerprint,
    read_fingerprint,
)
from tasks.core.progress import silent
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit
from tasks.core.weights.fuse import fuse_adapter
from tests.models import tiny_llama
from tests.unit.architecture.conftest import GELU_IN_THE_LAST

pytestmark = pytest.mark.usefixtures("preforked_children")

LINEAR = Edit(activations=(), rope_scaling=RopeScalingEdit(rope_type="linear", factor=4.0))


@pytest.fixture(scope="module")
def proven_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edited model with its fingerprint, as the edit stage leaves it: made once, then copied."""
    root = tmp_path_factory.mktemp("proven")
    stock, edited = tiny_llama(root / "stock"), root / "edited"
    edited.mkdir()
    edit_model(stock, GELU_IN_THE_LAST, edited)
    put_fingerprint(edited, prove_edit(edited, GELU_IN_THE_LAST, unedited=stock).fingerprint)
    return edited


@pytest.fixture
def proven(proven_once: Path, tmp_path: Path) -> Path:
    """That model, to be changed; `stock` is what it was made of."""
    return Path(shutil.copytree(proven_once, tmp_path / "proven"))


@pytest.fixture
def adapter(proven: Path, tmp_path: Path) -> Path:
    """A LoRA adapter that changes every answer."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(proven, trust_remote_code=True)
    config = LoraConfig(r=2, target_modules=["q_proj", "gate_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def _asked(model: torch.nn.Module, fingerprint: EditFingerprint) -> torch.Tensor:
    """Return the log-probabilities of the prompt, taken as a user would."""
    ids = torch.tensor([fingerprint.prompt_ids])
    with torch.no_grad():
        scores = model.float()(ids).logits[0].log_softmax(-1)
    return torch.stack([scores[i, token] for i, token in enumerate(fingerprint.prompt_ids[1:])])


def _read(model: Path) -> EditFingerprint:
    found = read_fingerprint(model)
    assert found is not None
    return found


def _mean_distance(a: torch.Tensor, b: tuple[float, ...]) -> float:
    return float((a - torch.tensor(b)).abs().mean())


def test_file_that_is_no_fingerprint_is_an_error_and_not_none(proven: Path) -> None:
    (proven / FINGERPRINT_FILE).write_text("{}")
    with pytest.raises(EditLost, match="cannot be read"):
        read_fingerprint(proven)


def test_model_that_does_not_fit_into_memory_has_no_fingerprint(
    stock: Path, proven: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proof = prove_edit(proven, GELU_IN_THE_LAST, unedited=stock, memory_bytes=0)
    assert proof.fingerprint is None
    put_fingerprint(proven, proof.fingerprint)
    assert read_fingerprint(proven) is None
    assert f"no {FINGERPRINT_FILE} is written: the whole model does not fit" in caplog.text


def test_fused_model_that_does_not_fit_into_memory_has_none(proven: Path) -> None:
    assert renew_fingerprint(proven, memory_bytes=0) == {}
    assert read_fingerprint(proven) is None


def test_answers_that_are_no_numbers_make_no_fingerprint(stock: Path, edited: Path) -> None:
    weights = load_file(edited / "model.safetensors")
    weights["lm_head.weight"][:] = torch.nan
    for model in (stock, edited):
        save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert prove_edit(edited, GELU_IN_THE_LAST, unedited=stock).fingerprint is None


def test_fingerprint_is_what_the_two_models_answer(stock: Path, proven: Path) -> None:
    found = _read(proven)
    ours = AutoModelForCausalLM.from_pretrained(proven, trust_remote_code=True)
    theirs = LlamaForCausalLM.from_pretrained(stock)
    assert found.dtype == "float32"
    assert _mean_distance(_asked(ours, found), found.edited) < 1e-6
    assert _mean_distance(_asked(theirs, found), found.unedited) < 1e-6
    assert found.edited != found.unedited


@pytest.mark.slow
@pytest.mark.parametrize("edit", [GELU_IN_THE_LAST, LINEAR], ids=["activation", "rope"])
def test_fingerprint_taken_anew_of_the_same_weights_is_the_same(
    stock: Path, edit_into: Callable[..., Path], edit: Edit
) -> None:
    model = edit_into(stock, edit)
    proof = prove_edit(model, edit, unedited=stock)
    renew_fingerprint(model)
    assert _read(model) == proof.fingerprint
    assert _read(model).edited != _read(model).unedited


@pytest.mark.slow
def test_twin_of_both_edits_keeps_the_rotation_that_stock_llama_knows(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    both = Edit(activations=(ActivationEdit(layers=(-1,)),), rope_scaling=LINEAR.rope_scaling)
    model, rotated = edit_into(stock, both), edit_into(stock, LINEAR, "rotated")
    renew_fingerprint(model)
    renew_fingerprint(rotated)
    assert _read(model).unedited == _read(rotated).edited


def test_fused_model_has_the_fingerprint_of_its_own_weights(
    proven: Path, adapter: Path, tmp_path: Path
) -> None:
    before, fused = _read(proven), tmp_path / "fused"
    fuse_adapter(proven, adapter, fused)
    assert read_fingerprint(fused) is None
    renew_fingerprint(fused)
    after = _read(fused)
    ours = AutoModelForCausalLM.from_pretrained(fused, trust_remote_code=True)
    assert after.prompt_ids == before.prompt_ids
    assert _mean_distance(_asked(ours, after), after.edited) < 1e-6
    assert _mean_distance(_asked(ours, after), before.edited) > 1e-3


def test_fused_plain_model_has_none(stock: Path) -> None:
    assert renew_fingerprint(stock) == {}
    assert not (stock / FINGERPRINT_FILE).exists()


def test_fingerprint_is_published_and_downloaded_with_its_model(
    proven: Path, tmp_path: Path
) -> None:
    names = [path.name for path in proven.iterdir()]
    assert FINGERPRINT_FILE in choose_to_publish(proven, names)
    (tmp_path / "copy").mkdir()
    copy_directory(proven, tmp_path / "copy", silent)
    assert json.loads((tmp_path / "copy" / FINGERPRINT_FILE).read_text()) == json.loads(
        (proven / FINGERPRINT_FILE).read_text()
    )
