"""Text in whole characters and without stop strings, wherever tokens and pieces end."""

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from tasks.core.serving.engines.text import Detokenizer, StopStrings
from tests.models import tiny_tokenizer

TEXTS = ["apa kabar?", "é", "warung 🍜 € ok", "नमस्ते 🇮🇩", "  dua  spasi ", "\n\ttab"]


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer as LLaMA's: a space is ▁, and characters that it lacks are bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abkprtu?"]
    bpe = models.BPE(
        {token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer("▁" + text.replace(" ", "▁"), add_special_tokens=False).input_ids


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_become_the_characters_that_they_are(text):
    tokenizer = tiny_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.add(each) for each in tokenizer(text).input_ids]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert detokenizer.rest() == ""


@pytest.mark.parametrize("text", ["apa kabar?", "é", "a 🍜 € b", "ab é€ 🍜"])
def test_a_tokenizer_that_drops_the_first_space_keeps_the_others(text):
    tokenizer = sentencepiece_tokenizer()
    ids = ids_of(tokenizer, text)
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.add(each) for each in ids]
    assert "".join(pieces) + detokenizer.rest() == tokenizer.decode(ids) == text


def test_half_a_character_at_the_end_is_never_given():
    tokenizer = tiny_tokenizer()
    for text in ("ok 🍜", "€"):
        for cut in (1, 2):
            detokenizer = Detokenizer(tokenizer)
            ids = tokenizer(text).input_ids[:-cut]
            given = "".join(detokenizer.add(each) for each in ids) + detokenizer.rest()
            assert given == text[:-1]


def test_a_special_token_has_no_text():
    tokenizer = tiny_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    ids = [1, *tokenizer("apa").input_ids, 2, *tokenizer("!").input_ids]
    assert "".join(detokenizer.add(each) for each in ids) == "apa!"


def parted(text: str, stops: list[str], size: int) -> tuple[str, bool]:
    found = StopStrings(stops)
    sent = ""
    for start in range(0, len(text), size):
        piece, stopped = found.add(text[start : start + size])
        sent += piece
        if stopped:
            return sent, True
    return sent + found.rest(), False


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("apa USER: kabar", ["USER:"], ("apa ", True)),
        ("apa USE kabar", ["USER:"], ("apa USE kabar", False)),
        ("aaab", ["aab"], ("a", True)),
        ("ababac", ["abac"], ("ab", True)),
        ("satu dua", ["dua", "satu"], ("", True)),
        ("ends with US", ["USER:"], ("ends with US", False)),
        ("\n\n\nx", ["\n\n"], ("", True)),
        ("nothing", [], ("nothing", False)),
    ],
)
def test_a_stop_string_is_found_wherever_the_text_is_cut(text, stops, expected, size):
    assert parted(text, stops, size) == expected


def test_what_may_begin_a_stop_string_is_not_sent_yet():
    found = StopStrings(["USER:"])
    assert found.add("apa U") == ("apa ", False)
    assert found.add("S") == ("", False)
    assert found.add("A") == ("USA", False)
