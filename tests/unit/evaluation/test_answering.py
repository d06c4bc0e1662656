from pathlib import Path
from typing import Any

import pytest
from fastchat.conversation import get_conv_template, register_conv_template
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tasks.core.evaluation.answering import Answerer
from tasks.core.evaluation.prompts import Prompt
from tests.models import tiny_llama, tiny_tokenizer

PROMPT = Prompt("p", "chat", "Apa itu NIB?")


class Parrot(LlamaForCausalLM):
    """A model that writes a given text, a byte a token, whatever it is asked."""

    said: list[int]
    prompt_tokens: int

    def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        found = super().forward(input_ids=input_ids, **kwargs)
        position = kwargs["attention_mask"].shape[1] - self.prompt_tokens
        found.logits.fill_(0.0)
        found.logits[:, -1, self.said[position % len(self.said)]] = 1.0
        return found


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Parrot:
    path = tiny_llama(tmp_path_factory.mktemp("model"), layers=1, dtype="float32")
    return Parrot.from_pretrained(path)


def answer(
    parrot: Parrot, tokenizer: PreTrainedTokenizerFast, template: str, said: str
) -> tuple[str, int]:
    conversation = get_conv_template(template)
    conversation.append_message(conversation.roles[0], PROMPT.text)
    conversation.append_message(conversation.roles[1], None)
    parrot.prompt_tokens = len(tokenizer(conversation.get_prompt())["input_ids"])
    parrot.said = tokenizer(said)["input_ids"]
    (found,) = Answerer("model", parrot, tokenizer, template).answer([PROMPT], 60)
    return found.text, found.tokens


def test_an_answer_ends_before_the_templates_stop_string(
    parrot: Parrot, tokenizer: PreTrainedTokenizerFast
) -> None:
    text, tokens = answer(parrot, tokenizer, "zero_shot", "Nomor induk.\n### Human: Lagi")
    assert text == "Nomor induk."
    assert tokens == len(tokenizer("Nomor induk.\n###")["input_ids"])


def test_the_first_of_several_stop_strings_ends_it(
    parrot: Parrot, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert answer(parrot, tokenizer, "aquila-chat", "Satu[UNK] dua ### tiga")[0] == "Satu"


def test_a_stop_string_in_the_prompt_ends_nothing(
    parrot: Parrot, tokenizer: PreTrainedTokenizerFast
) -> None:
    """one_shot's example turns are full of it."""
    assert "###" in get_conv_template("one_shot").get_prompt()
    assert answer(parrot, tokenizer, "one_shot", "Nomor induk.")[1] == 60


def test_a_template_without_stop_strings_ends_at_its_token(
    parrot: Parrot, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert answer(parrot, tokenizer, "vicuna_v1.1", "Nomor ### induk.</s>") == (
        "Nomor ### induk.",
        len(tokenizer("Nomor ### induk.</s>")["input_ids"]),
    )


def test_a_stop_string_of_letters_of_several_tokens_is_seen(
    parrot: Parrot, tokenizer: PreTrainedTokenizerFast
) -> None:
    template, name = get_conv_template("zero_shot"), "stops-at-a-letter"
    template.name, template.stop_str = name, "終🙂"
    register_conv_template(template, override=True)
    assert answer(parrot, tokenizer, name, "Nomor.終🙂 lagi")[0] == "Nomor."


def test_answers_that_are_written_side_by_side_are_those_of_each_prompt_alone(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_llama(tmp_path, dtype="float32"))
    answerer = Answerer("model", model, tokenizer, "vicuna_v1.1")
    texts = ("Apa?", "Apa itu NIB, dan untuk apa?", "Bagaimana cara menghitung laba warung saya?")
    prompts = [Prompt(str(number), "chat", text) for number, text in enumerate(texts)]
    together = answerer.answer(prompts, 12)
    alone = [answer for prompt in prompts for answer in answerer.answer([prompt], 12)]
    assert [(a.prompt_id, a.text, a.tokens) for a in together] == [
        (a.prompt_id, a.text, a.tokens) for a in alone
    ]


def test_an_answer_that_ends_first_holds_nothing_of_what_the_others_still_write(
    parrot: Parrot, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The second row says the stop string later: what follows it in the first is padding."""
    said = {0: "Satu.###", 1: "Satu dua.###"}
    rows = {row: tokenizer(text)["input_ids"] for row, text in said.items()}
    answers = _answers_of(parrot, tokenizer, rows)
    assert answers == [("Satu.", len(rows[0])), ("Satu dua.", len(rows[1]))]


def _answers_of(
    parrot: Parrot, tokenizer: PreTrainedTokenizerFast, rows: dict[int, list[int]]
) -> list[tuple[str, int]]:
    class Rows(Parrot):
        def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
            found = LlamaForCausalLM.forward(self, input_ids=input_ids, **kwargs)
            position = kwargs["attention_mask"].shape[1] - self.prompt_tokens
            found.logits.fill_(0.0)
            for row, tokens in rows.items():
                found.logits[row, -1, tokens[position % len(tokens)]] = 1.0
            return found

    conversation = get_conv_template("zero_shot")
    conversation.append_message(conversation.roles[0], PROMPT.text)
    conversation.append_message(conversation.roles[1], None)
    model = Rows(parrot.config)
    model.prompt_tokens = len(tokenizer(conversation.get_prompt())["input_ids"])
    found = Answerer("model", model, tokenizer, "zero_shot").answer([PROMPT, PROMPT], 60)
    return [(answer.text, answer.tokens) for answer in found]
