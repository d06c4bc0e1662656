import pytest
from fastchat.conversation import get_conv_template

from tasks.core.conversation.template.jinja import chat_template
from tasks.core.errors import RecipeError
from tests.models import tiny_tokenizer
from tests.unit.conversation.tokenizers import llama_tokenizer

STYLES = [
    "vicuna_v1.1",
    "zero_shot",
    "koala_v1",
    "alpaca",
    "airoboros_v2",
    "manticore",
    "qwen-7b-chat",
    "Yi-34b-chat",
]
SAID = ["Halo {nama}, 'apa' \"kabar\"?\n", "Baik 🙂 <b>", "  modal\n\n", "{{ laba }} \\n"]


@pytest.mark.parametrize("template", ["llama-2", "one_shot", "falcon"])
def test_another_style_is_refused_by_name(template: str) -> None:
    with pytest.raises(RecipeError, match=template):
        chat_template(template)


@pytest.mark.parametrize("template", STYLES)
@pytest.mark.parametrize("turns", [1, 2, 3, 4])
@pytest.mark.parametrize("system", [None, "", "Jawab singkat, “ya” 🙂."])
def test_tokenizers_render_the_bytes_of_fastchat(
    template: str, turns: int, system: str | None
) -> None:
    reference = get_conv_template(template)
    messages = [] if system is None else [{"role": "system", "content": system}]
    if system is not None:
        reference.set_system_message(system)
    for i, words in enumerate(SAID[:turns]):
        reference.append_message(reference.roles[i % 2], words)
        messages.append({"role": ("user", "assistant")[i % 2], "content": words})
    asks = turns % 2 == 1  # the assistant is next
    if asks:
        reference.append_message(reference.roles[1], None)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = chat_template(template)
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
    assert rendered == reference.get_prompt()


def test_messages_out_of_turn_are_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = chat_template("vicuna_v1.1")
    with pytest.raises(Exception, match="must alternate"):
        tokenizer.apply_chat_template([{"role": "assistant", "content": "a"}], tokenize=False)


def test_with_bos_the_tokens_are_those_that_fastchat_sends() -> None:
    tokenizer = llama_tokenizer()
    tokenizer.chat_template = chat_template("vicuna_v1.1", bos=True)
    messages = [{"role": "user", "content": "selamat datang"}]
    tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    prompt = get_conv_template("vicuna_v1.1")
    prompt.append_message(prompt.roles[0], "selamat datang")
    prompt.append_message(prompt.roles[1], None)
    assert tokens == tokenizer(prompt.get_prompt()).input_ids
