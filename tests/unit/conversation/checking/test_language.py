import json
from pathlib import Path

import pytest

from tasks.core.conversation.checking import language
from tasks.core.conversation.checking.language import LanguageCheck
from tasks.core.conversation.records import Conversation, Turn
from tasks.core.errors import RecipeError
from tests.conversations import load_conversations

ROOT = Path(__file__).parents[4]
ENGLISH = (
    "How should I price my cakes so that I earn something?",
    "Add up flour, eggs, gas, your own time and a share of the rent, then add a margin.",
)
INDONESIAN = (
    "Bagaimana cara menentukan harga jual kue saya supaya untung?",
    "Jumlahkan bahan, gas, tenaga dan sebagian sewa, lalu tambahkan keuntungan yang wajar.",
)


def talk(question: str, answer: str) -> Conversation:
    return Conversation("x", (Turn("human", question), Turn("gpt", answer)))


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"No language with this code[\s\S]*indonesia"):
        LanguageCheck("indonesia")


def test_a_conversation_in_another_language_is_told() -> None:
    assert LanguageCheck("id").other_language(talk(*ENGLISH)) == "en"
    assert LanguageCheck("en").other_language(talk(*INDONESIAN)) == "id"


def test_a_conversation_in_the_expected_language_passes() -> None:
    assert LanguageCheck("id").other_language(talk(*INDONESIAN)) is None


def test_too_little_text_is_not_judged() -> None:
    assert (
        LanguageCheck("id").other_language(talk("Thank you so much!", "You are welcome.")) is None
    )


def test_a_foreign_beginning_does_not_condemn_a_conversation() -> None:
    mixed = talk("Please write about this topic. " * 10, INDONESIAN[1] * 40)
    assert LanguageCheck("id").other_language(mixed) is None


@pytest.mark.parametrize("name", ["conversation.json", "evaluation/held_out.json"])
def test_every_record_of_the_starter_set_is_indonesian(name: str) -> None:
    check = LanguageCheck("id")
    records = load_conversations(ROOT / "data" / name)
    assert len(records) == len(json.loads((ROOT / "data" / name).read_text()))
    assert [c.id for c in records if check.other_language(c) is not None] == []


def test_many_at_once_are_told_as_py3langid_tells_each() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    theirs = LanguageIdentifier.from_model_file(MODEL_FILE)
    texts = [
        turn.text
        for c in load_conversations(ROOT / "data" / "conversation.json")
        for turn in c.turns
    ]
    texts = [text[: 1 + 7 * number] for number, text in enumerate(texts[:150])]
    texts += ["", "x", *ENGLISH, "HOW ARE YOU TODAY", "こんにちは、元気ですか", "ᚠᚢᚦ" * 40, "é"]
    ours = language._identifier().languages(texts)
    assert ours == [theirs.classify(text)[0] for text in texts]
