"""What is refused of a training before it begins, by dry run, plan and the training alike."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.errors import DataError, NotAModel, RecipeError
from tasks.core.recipe import Finetune, Lora
from tasks.core.training.checks import check_conversations, check_settings, check_training
from tests.models import tiny_llama

TEMPLATE = "vicuna_v1.1"
CPU = Finetune(device="cpu", precision="float32")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps([{"id": "a", "conversations": turns}]))
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    return lambda **shape: tiny_llama(tmp_path / "model", layers=1, **shape)


def test_a_model_settings_and_data_that_agree_are_taken_without_a_warning(
    make: Callable[..., Path], data: Path
) -> None:
    index, warnings = check_training(make(), CPU, data=data, template=TEMPLATE)
    assert warnings == ()
    assert index.tensors


@pytest.mark.parametrize(("positions", "length"), [(256, 2048), (256, 257), (2047, 2048)])
def test_a_length_beyond_the_model_s_positions_is_refused(
    make: Callable[..., Path], data: Path, positions: int, length: int
) -> None:
    settings = CPU.model_copy(update={"max_length_tokens": length})
    with pytest.raises(RecipeError, match=rf"at most {positions} tokens"):
        check_training(make(max_positions=positions), settings, data=data, template=TEMPLATE)


def test_a_padding_token_beyond_the_embedding_is_refused(
    make: Callable[..., Path], data: Path
) -> None:
    model = make(vocab=259)
    tokenizer = load_tokenizer(model)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model)
    with pytest.raises(NotAModel, match=r"pad token has no row[\s\S]*'\[PAD\]' has the id 259"):
        check_training(model, CPU, data=data, template=TEMPLATE)


def test_a_layer_that_the_model_does_not_have_is_refused(
    make: Callable[..., Path], data: Path
) -> None:
    settings = CPU.model_copy(update={"lora": Lora(target_modules=("c_attn",))})
    with pytest.raises(RecipeError, match="c_attn"):
        check_training(make(), settings, data=data, template=TEMPLATE)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"hostfile": Path("nowhere/hosts")}, "hostfile cannot be read"),
        ({"quantization": "4bit", "offload": "all"}, "4-bit weights"),
    ],
)
def test_settings_that_nothing_can_be_trained_with_are_refused(
    wrong: dict[str, object], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        check_settings(Finetune().model_copy(update=wrong), TEMPLATE)


@pytest.mark.parametrize("template", ["vicuna_v1.2", "", "chatgpt", "raw"])
def test_a_template_that_cannot_be_trained_with_is_refused(template: str) -> None:
    with pytest.raises(RecipeError):
        check_settings(CPU, template)


@pytest.mark.parametrize("content", [None, "", "[]", "{", '[{"id": "a"}]', "[1, 2]"])
def test_data_without_a_conversation_is_refused(tmp_path: Path, content: str | None) -> None:
    data = tmp_path / "data.json"
    if content is not None:
        data.write_text(content)
    with pytest.raises(DataError, match=r"data\.json"):
        check_conversations(data)


def test_a_bad_record_before_a_good_one_is_left_to_the_screening(
    data: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed.json"
    mixed.write_text(json.dumps([{"id": "bad"}, *json.loads(data.read_text())]))
    check_conversations(mixed)
