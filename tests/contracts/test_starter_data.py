"""The starter data keeps its promises: counts, format, privacy, and nothing held out is trained on.

Covers the files under data/ as they lie in the repository. Reads them with the standard library
alone, so that a fault in the project's own reader cannot hide a fault in the data.
"""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tasks.core.recipe import Evaluate, Finetune

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / str(Finetune().data[0].file)
HELD_OUT = ROOT / Evaluate().conversations
PROMPTS = ROOT / Evaluate().prompts

MAX_EXCHANGES = 8
SHINGLE_WORDS = 5
# The two closest records share 5%: both ask the article writer's fixed question.
MAX_SHARED_SHINGLES = 0.2
# Shorter turns ("terima kasih banyak") may be said by two people.
MIN_TELLING_CHARACTERS = 40

EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w")
PHONE = re.compile(r"(?<!\d)(?:\+?62|0)[ -]?8(?:[ .-]?\d){7,}")
CARD_OR_IDENTITY = re.compile(r"(?<![\d.,])(?:\d[ -]?){13,}(?!\d)")

Record = dict[str, Any]
Shingles = set[tuple[str, ...]]


def read(path: Path) -> list[Record]:
    loaded: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def values(record: Record) -> list[str]:
    return [turn["value"] for turn in record["conversations"]]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def shingles(record: Record) -> Shingles:
    tokens = words(" ".join(values(record)))
    return {tuple(tokens[i : i + SHINGLE_WORDS]) for i in range(len(tokens) - SHINGLE_WORDS + 1)}


def shared(a: Shingles, b: Shingles) -> float:
    return len(a & b) / min(len(a), len(b))


def told(records: list[Record]) -> Counter[str]:
    """Count each turn that is long enough to be recognised, whatever its case and punctuation."""
    texts = (" ".join(words(value)) for record in records for value in values(record))
    return Counter(text for text in texts if len(text) >= MIN_TELLING_CHARACTERS)


def test_training_set_has_at_least_120_conversations_of_several_exchanges() -> None:
    several = [r for r in read(TRAINING) if len(r["conversations"]) >= 4]
    assert len(several) >= 120


def test_held_out_set_has_30_conversations() -> None:
    assert len(read(HELD_OUT)) == 30


def test_prompts_are_24_of_both_kinds_with_unique_ids() -> None:
    prompts = read(PROMPTS)
    assert len({p["id"] for p in prompts}) == len(prompts) == 24
    assert {p["kind"] for p in prompts} == {"chat", "article"}
    assert all(set(p) == {"id", "kind", "prompt"} and p["prompt"].strip() for p in prompts)


@pytest.mark.parametrize("path", [TRAINING, HELD_OUT], ids=lambda p: p.stem)
def test_every_record_has_fastchats_fields_and_nothing_else(path: Path) -> None:
    for record in read(path):
        assert set(record) == {"id", "conversations"}, record["id"]
        assert all(set(turn) == {"from", "value"} for turn in record["conversations"]), record["id"]


@pytest.mark.parametrize("path", [TRAINING, HELD_OUT], ids=lambda p: p.stem)
def test_human_and_gpt_take_turns_and_gpt_has_the_last_word(path: Path) -> None:
    for record in read(path):
        roles = [turn["from"] for turn in record["conversations"]]
        exchanges = len(roles) // 2
        assert 1 <= exchanges <= MAX_EXCHANGES, record["id"]
        assert roles == ["human", "gpt"] * exchanges, record["id"]


@pytest.mark.parametrize("path", [TRAINING, HELD_OUT], ids=lambda p: p.stem)
def test_no_turn_is_empty_or_padded_with_blanks(path: Path) -> None:
    for record in read(path):
        assert all(value and value == value.strip() for value in values(record)), record["id"]


def test_ids_name_a_topic_and_are_unique_in_both_sets_together() -> None:
    ids = [record["id"] for record in read(TRAINING) + read(HELD_OUT)]
    assert [i for i, n in Counter(ids).items() if n > 1] == []
    assert all(re.fullmatch(r"(uji-)?[a-z]+-\d{3}", i) for i in ids)


@pytest.mark.parametrize("path", [TRAINING, HELD_OUT, PROMPTS], ids=lambda p: p.stem)
@pytest.mark.parametrize("leak", [EMAIL, PHONE, CARD_OR_IDENTITY], ids=["email", "phone", "card"])
def test_nothing_looks_like_personal_data(path: Path, leak: re.Pattern[str]) -> None:
    assert leak.findall(path.read_text(encoding="utf-8")) == []


def test_no_telling_turn_is_said_twice() -> None:
    turns = told(read(TRAINING) + read(HELD_OUT))
    assert [text for text, n in turns.items() if n > 1] == []


def test_no_prompt_for_side_by_side_reading_is_in_the_training_set() -> None:
    trained = told(read(TRAINING))
    assert [p["id"] for p in read(PROMPTS) if trained[" ".join(words(p["prompt"]))]] == []


def test_no_held_out_conversation_is_a_near_duplicate_of_a_trained_one() -> None:
    trained = [(r["id"], shingles(r)) for r in read(TRAINING)]
    held_out = [(r["id"], shingles(r)) for r in read(HELD_OUT)]
    close = [(a, b) for a, x in held_out for b, y in trained if shared(x, y) > MAX_SHARED_SHINGLES]
    assert close == []


def test_no_two_trained_conversations_are_near_duplicates() -> None:
    trained = sorted(((r["id"], shingles(r)) for r in read(TRAINING)), key=lambda pair: pair[0])
    close = [
        (a, b)
        for i, (a, x) in enumerate(trained)
        for b, y in trained[i + 1 :]
        if shared(x, y) > MAX_SHARED_SHINGLES
    ]
    assert close == []


@pytest.mark.parametrize("path", [TRAINING, HELD_OUT, PROMPTS], ids=lambda p: p.stem)
def test_files_are_written_for_reading_and_for_small_diffs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=1) + "\n"


def test_records_of_one_topic_stand_together() -> None:
    topics = [record["id"].rsplit("-", 1)[0] for record in read(TRAINING)]
    changes = sum(a != b for a, b in pairwise(topics))
    assert changes == len(set(topics)) - 1
