"""FastChat's faults that the engine works around, and that they are still there.

The tests named "…_still_…" fail once FastChat or transformers no longer has the fault: then what is
there for it goes.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from fastchat.model.model_adapter import BaseModelAdapter, VicunaAdapter, get_model_adapter
from fastchat.serve.inference import generate_stream
from fastchat.utils import get_context_length
from transformers import AutoModelForCausalLM, LlamaConfig

from tasks.core.serving.engines import fastchat_process
from tasks.core.serving.engines.fastchat_generator import FastChatGenerator
from tasks.core.serving.engines.request import Completion, RequestRefused
from tests.models import tiny_llama, tiny_tokenizer


class Recorded:
    """A model that keeps what it is asked."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.config, self.device = model.config, model.device
        self.lengths: list[int] = []

    def __call__(self, input_ids: torch.Tensor, **options: object) -> Any:
        self.lengths.append(input_ids.shape[1])
        return self._model(input_ids=input_ids, **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tiny_llama(tmp_path_factory.mktemp("model"), dtype="float32", max_positions=64)
    return AutoModelForCausalLM.from_pretrained(path)


def test_fastchat_still_cuts_a_prompt_that_fills_the_context_with_its_answer(model):
    """FastChat#3399. The engine tells it of a longer context: its own check comes before."""
    recorded, tokenizer = Recorded(model), tiny_tokenizer()
    prompt = "a" * 60
    parameters = {"prompt": prompt, "max_new_tokens": 4, "temperature": 0, "echo": False}
    list(generate_stream(recorded, tokenizer, parameters, "cpu", context_len=64))
    assert recorded.lengths[0] == len(tokenizer(prompt).input_ids) - 1


def test_fastchat_still_cannot_find_the_context_length_of_a_llama():
    with pytest.raises(KeyError, match="factor"):
        get_context_length(LlamaConfig())


@pytest.mark.parametrize(
    ("rope", "length"),
    [
        (None, 2048),
        ({"rope_type": "linear", "factor": 2.0}, 4096),
        ({"rope_type": "dynamic", "factor": 4.0}, 8192),
        ({"rope_type": "yarn", "factor": 4.0}, 8192),
    ],
)
def test_the_context_is_the_trained_length_times_the_rope_factor(rope, length):
    config = LlamaConfig(max_position_embeddings=2048, rope_parameters=rope)
    assert fastchat_process.context_length(config) == length


def test_a_configuration_that_names_the_stretched_length_is_not_stretched_twice():
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    config = LlamaConfig(max_position_embeddings=8192, rope_parameters=rope)
    assert fastchat_process.context_length(config) == 8192


def test_the_neutral_name_gets_the_adapter_that_trusts_the_models_code():
    assert type(get_model_adapter("model")) is BaseModelAdapter


def test_a_path_with_vicuna_still_gets_the_adapter_that_drops_the_edit():
    assert type(get_model_adapter("/models/vicuna/model")) is VicunaAdapter


def test_a_repetition_penalty_below_1_is_refused_and_not_ignored(model):
    generator = FastChatGenerator(model, tiny_tokenizer())
    wanted = Completion(model="m", prompt=(5,), repetition_penalty=0.5)
    with pytest.raises(RequestRefused, match="repetition_penalty"):
        generator.check(wanted)
    generator.close()


def test_an_answer_with_a_seed_is_alone_and_others_are_five(model):
    generator = FastChatGenerator(model, tiny_tokenizer())
    drawn = Completion(model="m", prompt=(5,), seed=1)
    assert generator.room.requests == 5
    assert generator.cost(Completion(model="m", prompt=(5,))) == 1
    assert generator.cost(drawn) == generator.room.capacity
    generator.close()


def test_a_model_whose_rope_follows_the_text_answers_one_request_at_a_time(model):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    config = LlamaConfig(**{**model.config.to_dict(), "rope_parameters": rope})
    generator = FastChatGenerator(AutoModelForCausalLM.from_config(config), tiny_tokenizer())
    assert generator.room.requests == 1
    generator.close()
