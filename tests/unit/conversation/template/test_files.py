import json
from pathlib import Path

import pytest
from fastchat.conversation import get_conv_template
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tasks.core.conversation.template.files import write_chat_template
from tasks.core.errors import NotAModel, RecipeError
from tests.models import tiny_tokenizer
from tests.unit.conversation.tokenizers import llama_tokenizer

SAID = ["Halo, 'apa' kabar?", "Baik 🙂", "Berapa {{ modal }}?\n"]


def saved(tokenizer: PreTrainedTokenizerFast, path: Path) -> Path:
    tokenizer.chat_template = "{{ 'another template' }}"
    tokenizer.save_pretrained(path)
    return path


def prompt_of(template: str) -> str:
    conversation = get_conv_template(template)
    for number, words in enumerate(SAID):
        conversation.append_message(conversation.roles[number % 2], words)
    conversation.append_message(conversation.roles[1], None)
    prompt: str = conversation.get_prompt()
    return prompt


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match="tokenizer cannot be loaded"):
        write_chat_template(tmp_path, "vicuna_v1.1")


def test_a_template_without_translation_changes_nothing(tmp_path: Path) -> None:
    model = saved(tiny_tokenizer(), tmp_path)
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    with pytest.raises(RecipeError, match="llama-2"):
        write_chat_template(model, "llama-2")
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


@pytest.mark.parametrize("template", ["vicuna_v1.1", "qwen-7b-chat", "Yi-34b-chat"])
@pytest.mark.parametrize(
    ("tokenizer", "begin"), [(tiny_tokenizer(), ""), (llama_tokenizer(), "<s>")]
)
@pytest.mark.parametrize("legacy", [True, False])
def test_a_loaded_tokenizer_gives_the_tokens_that_fastchat_sends(
    tmp_path: Path, template: str, tokenizer: PreTrainedTokenizerFast, begin: str, legacy: bool
) -> None:
    model = saved(tokenizer, tmp_path)
    configuration = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(configuration | {"legacy": legacy}))
    write_chat_template(model, template)
    loaded = AutoTokenizer.from_pretrained(model)
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": words}
        for number, words in enumerate(SAID)
    ]
    tokens = loaded.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert tokens == loaded(prompt_of(template))["input_ids"]
    text = loaded.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text.removeprefix(begin).removeprefix(" ") == prompt_of(template).removeprefix(" ")
    assert text.startswith(begin)


def test_programs_that_read_only_the_configuration_find_it_too(tmp_path: Path) -> None:
    model = saved(tiny_tokenizer(), tmp_path)
    before = json.loads((model / "tokenizer_config.json").read_text())
    names = write_chat_template(model, "vicuna_v1.1")
    after = json.loads((model / "tokenizer_config.json").read_text())
    assert names == ("chat_template.jinja", "tokenizer_config.json")
    assert after.pop("chat_template") == (model / "chat_template.jinja").read_text()
    before.pop("chat_template", None)
    assert after == before


def test_a_linked_file_of_another_model_is_not_touched(tmp_path: Path) -> None:
    model = saved(tiny_tokenizer(), tmp_path / "model")
    other = tmp_path / "other.json"
    other.hardlink_to(model / "tokenizer_config.json")
    before = other.read_bytes()
    write_chat_template(model, "vicuna_v1.1")
    assert other.read_bytes() == before
