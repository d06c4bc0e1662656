from pathlib import Path

import pytest

from tasks.core.conversation.examples import ExampleFile, write_examples
from tasks.core.conversation.labels import Encoder
from tasks.core.conversation.records import Conversation, Turn
from tasks.core.errors import DataError
from tests.models import tiny_tokenizer


def talk(*words: str) -> Conversation:
    return Conversation(
        "x", tuple(Turn("gpt" if i % 2 else "human", word) for i, word in enumerate(words))
    )


SHORT, LONG = talk("a", "b", "c", "d" * 40), talk("e", "f" * 400)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(tiny_tokenizer(), "vicuna_v1.1", 240)


def test_nothing_left_to_learn_is_an_error_and_leaves_no_file(
    tmp_path: Path, encoder: Encoder
) -> None:
    with pytest.raises(DataError, match=r"Nothing is left to learn[\s\S]*max_length_tokens"):
        write_examples(tmp_path / "examples", [LONG, LONG], encoder)
    assert list(tmp_path.iterdir()) == []


def test_conversations_that_cannot_be_encoded_are_counted_and_named(
    tmp_path: Path, encoder: Encoder
) -> None:
    with pytest.raises(DataError, match=r"1 of 2 conversations[\s\S]*x, turn 1[\s\S]*</s>"):
        write_examples(tmp_path / "examples", [SHORT, talk("</s>", "b")], encoder)


def test_the_file_gives_back_every_example_that_fits(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "examples"
    counts = write_examples(path, [SHORT, LONG, SHORT], encoder)
    expected = encoder.encode(SHORT)
    read = ExampleFile(path)
    assert len(read) == counts.examples == 2
    assert [example["input_ids"].tolist() for example in read] == [expected.input_ids] * 2  # type: ignore[attr-defined]
    assert read[1]["labels"].tolist() == expected.labels
    assert (counts.too_long_conversations, counts.too_long_answers) == (1, 1)
    assert counts.tokens == 2 * len(expected.input_ids)
    assert counts.learned_tokens == 2 * expected.learned_tokens
