import json
from pathlib import Path

import matplotlib.image
import pytest

from tasks.core.conversation.checking.findings import Screening
from tasks.core.conversation.checking.picture import draw_lengths
from tasks.core.conversation.checking.remedies import remedy
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.checking.summary import render_summary
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.records import RecordFault
from tests.models import tiny_tokenizer

QUESTION = "Bagaimana cara menghitung harga jual kue supaya usaha saya tetap untung"
ANSWER = "Jumlahkan biaya bahan, tenaga dan sewa, lalu tambahkan keuntungan yang wajar"


def screened(tmp_path: Path, *records: object, encoder: Encoder | None = None) -> Screening:
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(records))
    return screen(path, Rules(), encoder=encoder)


def good(name: str, answer: str = ANSWER) -> object:
    turns = [("human", f"{QUESTION} {name}?"), ("gpt", f"{answer} {name}.")]
    return {"id": name, "conversations": [{"from": who, "value": what} for who, what in turns]}


def test_there_is_advice_for_every_fault() -> None:
    assert all(remedy(fault).endswith(".") for fault in RecordFault)


def test_the_advice_names_the_part_of_the_recipe_that_the_records_are_read_for() -> None:
    assert "finetune.max_length_tokens" in remedy(RecordFault.TOO_LONG)
    assert "evaluate.max_length_tokens" in remedy(RecordFault.TOO_LONG, "evaluate")


def test_a_remedy_names_the_option_of_the_command_or_the_field_of_the_recipe() -> None:
    assert "--language any" in remedy(RecordFault.OTHER_LANGUAGE, "check")
    assert "finetune.language" in remedy(RecordFault.OTHER_LANGUAGE)
    assert "--merge-neighbours" in remedy(RecordFault.WRONG_ORDER, "check")
    assert "finetune.same_speaker: merge" in remedy(RecordFault.WRONG_ORDER)
    assert "--max-length" in remedy(RecordFault.TOO_LONG, "check")


def test_a_file_that_is_not_accepted_says_so_and_what_to_do(tmp_path: Path) -> None:
    text = render_summary(screened(tmp_path, good("satu"), good("satu"), {"id": "kosong"}))
    assert "3 records: 1 kept, 2 dropped" in text
    assert "Not accepted: 66.7% dropped, at most 2% may be." in text
    assert "1  duplicate     Keep one of them" in text
    assert "1  wrong fields  Write {" in text


def test_a_file_of_which_nothing_is_left_says_so(tmp_path: Path) -> None:
    text = render_summary(screened(tmp_path, {"id": "kosong"}))
    assert "Nothing can be learned from this file." in text
    assert "Conversations by length" not in text


def test_a_good_file_is_summed_up_with_its_tokens(tmp_path: Path) -> None:
    encoder = Encoder(tiny_tokenizer(), "vicuna_v1.1", 2048)
    found = screened(tmp_path, good("satu"), good("dua", ANSWER * 3), encoder=encoder)
    text = render_summary(found)
    assert "Accepted: every record can be learned from." in text
    assert f"Kept: 4 turns, {found.total.characters:,} characters, {found.total.tokens:,}" in text
    assert f"{found.total.learned_tokens:,} (" in text
    assert text.count("█") > 40


def test_without_a_tokenizer_no_token_is_spoken_of(tmp_path: Path) -> None:
    text = render_summary(screened(tmp_path, good("satu")))
    assert " tokens" not in text
    assert "Conversations by length in characters" in text


@pytest.mark.parametrize("with_tokens", [False, True])
@pytest.mark.parametrize("records", [[], ["satu", "dua"]], ids=["none", "some"])
def test_the_picture_is_a_png_even_of_nothing(
    tmp_path: Path, with_tokens: bool, records: list[str]
) -> None:
    encoder = Encoder(tiny_tokenizer(), "vicuna_v1.1", 2048) if with_tokens else None
    found = screened(tmp_path, *(good(name) for name in records), encoder=encoder)
    draw_lengths(found, tmp_path / "lengths.png", 2048)
    height, width, _ = matplotlib.image.imread(tmp_path / "lengths.png").shape
    assert width > height > 300
