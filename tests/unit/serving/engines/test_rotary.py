from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from tasks.core.serving.engines.rotary import restore_rotary_precision
from tests.models import tiny_llama


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("rotary"), hidden=64)


def test_half_still_rounds_the_frequencies(path: Path) -> None:
    """When transformers protects them from `half()`, the remedy is no longer needed."""
    model = LlamaForCausalLM.from_pretrained(path, dtype=torch.float16)
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert model.half().model.rotary_emb.inv_freq.dtype == torch.float16


def test_restored_frequencies_are_those_of_a_fresh_model(path: Path) -> None:
    fresh = LlamaForCausalLM.from_pretrained(path, dtype=torch.float16)
    model = LlamaForCausalLM.from_pretrained(path, dtype=torch.float16).half()
    assert restore_rotary_precision(model) == 1
    assert torch.equal(model.model.rotary_emb.inv_freq, fresh.model.rotary_emb.inv_freq)
    ids = torch.arange(3, 300)[None]
    assert torch.equal(model(ids).logits, fresh(ids).logits)


def test_model_in_full_precision_is_left_alone(path: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(path, dtype=torch.float16)
    before = model.model.rotary_emb.inv_freq
    assert restore_rotary_precision(model) == 0
    assert model.model.rotary_emb.inv_freq is before
