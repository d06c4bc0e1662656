"""From an edited model through training and fusing to one whole model: nothing is lost."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.inspection import inspect_model
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.examples.split import is_validation
from tasks.core.recipe import ActivationEdit, Edit, Finetune, Lora
from tasks.core.training.attempt import run_attempt
from tasks.core.training.request import TrainingRequest
from tasks.core.weights.fuse import fuse_adapter
from tests.conversations import load_conversations
from tests.models import WORDS, tiny_llama, tiny_tokenizer

TEMPLATE = "vicuna_v1.1"
EDIT = Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),))


def loaded(path: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, trust_remote_code=True)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_a_fused_model_computes_what_model_and_adapter_do_and_keeps_its_edit(
    tmp_path: Path, stage: int
) -> None:
    plain = tiny_llama(tmp_path / "plain", layers=2, dtype="float32")
    edited, out, fused = (tmp_path / name for name in ("edited", "out", "fused"))
    for directory in (edited, out, fused):
        directory.mkdir()
    edit_model(plain, EDIT, edited)
    data = tmp_path / "conversation.json"
    turns = [[("human", WORDS[i]), ("gpt", " ".join(WORDS[: i + 1]))] for i in range(10)]
    data.write_text(
        json.dumps(
            [
                {"id": str(i), "conversations": [{"from": a, "value": b} for a, b in pair]}
                for i, pair in enumerate(turns)
            ]
        )
    )
    settings = Finetune(
        device="cpu",
        zero_stage=stage,
        processes=2,
        precision="float32",
        lora=Lora(target_modules="all-linear", r=4, rslora=True),
        micro_batch_size=1,
        gradient_accumulation_steps=1,
        max_steps=4,
        learning_rate=1e-2,
        warmup_ratio=0.0,
        validation_share=0.4,
    )
    trained = run_attempt(TrainingRequest(edited, settings, data, TEMPLATE, out))
    fuse_adapter(edited, trained.adapter, fused)
    alive = inspect_model(fused)
    assert alive.edit == "alive", alive.reason
    assert [layer.computes for layer in alive.layers] == ["silu", "gelu"]

    with_adapter = PeftModel.from_pretrained(loaded(edited), trained.adapter).eval()
    whole, untrained = loaded(fused), loaded(edited)
    encoder = Encoder(tiny_tokenizer(), TEMPLATE, settings.max_length_tokens)
    apart = [
        each for each in load_conversations(data) if is_validation(each, settings.validation_share)
    ]
    nats, tokens = 0.0, 0
    for conversation in apart:
        example = encoder.encode(conversation)
        input_ids, labels = torch.tensor([example.input_ids]), torch.tensor(example.labels)
        with torch.no_grad():
            expected = with_adapter(input_ids).logits
            # W + sB A in one matrix or two: a few roundings of fp32.
            torch.testing.assert_close(whole(input_ids).logits, expected, rtol=1e-4, atol=1e-4)
            assert (untrained(input_ids).logits - expected).abs().max() > 1e-2
        nats += cross_entropy(expected[0, :-1], labels[1:], reduction="sum").item()
        tokens += example.learned_tokens
    # What the training measured with the adapter in its hands is what the file gives.
    assert trained.validation_loss == pytest.approx(nats / tokens, rel=1e-3)
    assert [each.step for each in trained.validation][-1] == 4
