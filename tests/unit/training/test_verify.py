from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tasks.core.errors import AdapterMismatch, RecipeError, TrainingFailed
from tasks.core.recipe import Lora
from tasks.core.training.verify import WEIGHTS, require_targets, verify_adapter
from tasks.core.weights.index import read_index
from tests.models import tiny_llama

LORA = Lora(r=4, target_modules=("q_proj", "v_proj"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=2)


@pytest.fixture
def adapter(model: Path, tmp_path: Path) -> Path:
    """PEFT's own adapter with B drawn at random, as if trained."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    config.init_lora_weights = True
    peft.save_pretrained(tmp_path)
    return tmp_path


def change(adapter: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(adapter / WEIGHTS)
    edit(tensors)
    save_file(tensors, adapter / WEIGHTS)


def test_a_true_adapter_is_counted(adapter: Path, model: Path) -> None:
    facts = verify_adapter(adapter, read_index(model))
    tensors = load_file(adapter / WEIGHTS)
    assert facts.tensors == len(tensors) == 8
    assert facts.parameters == sum(t.numel() for t in tensors.values())


def test_an_untrained_b_is_found(adapter: Path, model: Path) -> None:
    change(
        adapter,
        lambda t: next(t[name] for name in t if "1.self_attn.v_proj.lora_B" in name).zero_(),
    )
    with pytest.raises(TrainingFailed, match=r"1\.self_attn\.v_proj\.lora_B\S* is zero"):
        verify_adapter(adapter, read_index(model))


def test_a_value_that_is_not_finite_is_found(adapter: Path, model: Path) -> None:
    change(adapter, lambda t: t[min(t)].view(-1)[3:4].fill_(float("nan")))
    with pytest.raises(TrainingFailed, match="NaN or infinity"):
        verify_adapter(adapter, read_index(model))


def test_a_targeted_weight_without_an_adapter_is_found(adapter: Path, model: Path) -> None:
    change(adapter, lambda t: [t.pop(name) for name in list(t) if "0.self_attn.q_proj" in name])
    with pytest.raises(AdapterMismatch, match=r"1 without one.*0\.self_attn\.q_proj"):
        verify_adapter(adapter, read_index(model))


def test_a_target_that_the_model_does_not_have_is_refused(model: Path) -> None:
    with pytest.raises(RecipeError, match=r"gate_proj[\s\S]*query_key_value"):
        require_targets(read_index(model), Lora(target_modules=("q_proj", "query_key_value")))
    require_targets(read_index(model), Lora(target_modules="all-linear"))
