from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from tasks.core.errors import TrainingFailed
from tasks.core.recipe import Finetune
from tasks.core.training.model import base_model
from tasks.core.training.model.base_model import (
    place_of_weights,
    prepared_for_adapter,
    quantization,
    read_base_model,
)
from tests.models import tiny_llama

GPU = torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"zero_stage": 0}, {"device_map": {"": "cuda:1"}}),
        ({"zero_stage": 2}, {"device_map": {"": "cuda:1"}}),
        ({"zero_stage": 2, "quantization": "4bit"}, {"device_map": {"": "cuda:1"}}),
        ({"zero_stage": 3}, {}),  # transformers refuses one
        ({"zero_stage": 2, "device": "cpu"}, {}),
    ],
)
def test_below_zero_3_each_process_reads_the_weights_onto_its_own_gpu(
    changes: dict[str, object], place: dict[str, object]
) -> None:
    assert place_of_weights(Finetune.model_validate(changes), GPU) == place


def test_a_model_that_is_read_to_its_place_is_the_same_and_has_no_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place of one device, which no GPU is needed for: Trainer must not see a divided model."""
    directory = tiny_llama(tmp_path / "model", layers=1, dtype="float32")
    settings = Finetune(device="cpu", precision="float32")
    plain = read_base_model(directory, settings, torch.device("cpu"))
    there = {"device_map": {"": "cpu"}}
    monkeypatch.setattr(base_model, "place_of_weights", lambda *_: there)
    placed = read_base_model(directory, settings, torch.device("cpu"))
    assert len(set(getattr(placed, "hf_device_map", {"": "cpu"}).values())) == 1
    assert not any(hasattr(module, "_hf_hook") for module in placed.modules())
    for name, weight in plain.state_dict().items():
        assert torch.equal(placed.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("zero_stage", "storage"), [(0, torch.uint8), (2, torch.uint8), (3, torch.bfloat16)]
)
def test_4_bit_weights_are_stored_in_the_type_that_zero_3_can_divide(
    zero_stage: int, storage: torch.dtype
) -> None:
    settings = Finetune.model_validate({"quantization": "4bit", "zero_stage": zero_stage})
    config = quantization(settings)["quantization_config"]
    assert config.bnb_4bit_quant_storage is storage
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_compute_dtype) == ("nf4", torch.bfloat16)


def test_4_bit_weights_of_another_type_beside_them_are_refused_under_zero_3(
    tmp_path: Path,
) -> None:
    model = tiny_model(tmp_path)
    settings = Finetune(quantization="4bit", zero_stage=3)
    assert prepared_for_adapter(model.bfloat16(), settings) is model
    model.model.norm.float()
    with pytest.raises(TrainingFailed, match=r"bfloat16[\s\S]*torch\.float32"):
        prepared_for_adapter(model, settings)


def tiny_model(tmp_path: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(tiny_llama(tmp_path / "model", layers=1))
