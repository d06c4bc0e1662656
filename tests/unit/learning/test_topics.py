import json
from pathlib import Path

import pytest

from tasks.core.errors import DataError
from tasks.core.home import PROJECT
from tasks.core.learning.topics import OTHER_TOPIC, read_topics, topics_in
from tasks.core.recipe import Evaluate, Finetune

TOPICS = read_topics()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "not a list of words"),
        ("[modal]", "not a list of words"),
        ("modal: []", "not a list of words"),
        ("modal: [1]", "not a list of words"),
        ("modal: ['']", "not a list of words"),
        ("modal: [a]\nmodal: [b]", "named twice"),
        ("modal: [", "next step: Correct the file"),
        ("\x00\x01\x02", "UTF-8|topics"),
    ],
)
def test_a_list_that_is_none_is_refused(content: str, found: str, tmp_path: Path) -> None:
    file = tmp_path / "topics.yaml"
    file.write_text(content)
    with pytest.raises(DataError, match=found):
        read_topics(file)


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("KUR itu apa dan siapa saja yang bisa dapat?", "modal"),
        ("Apa yang terjadi kalau saya terlambat setor PPh final dua bulan?", "pajak"),
        ("Usaha saya jasa cuci motor. Wajib punya NIB? Bayar berapa?", "perizinan"),
        ("gaji karyawan 2,5 juta sebulan, perlu potong?", "karyawan"),
        ("Bagaimana cara MEMPROMOSIKAN warung baru?", "pemasaran"),
        ("telur di gudang sering pecah, persediaan kurang", "stok"),
        ("pagi min", OTHER_TOPIC),
        ("Uangnya kurang terus.", OTHER_TOPIC),
        ("", OTHER_TOPIC),
    ],
)
def test_a_question_is_about_what_its_words_say(question: str, topic: str) -> None:
    """`kur` is a word of its own only, and `promosi` counts within another one."""
    assert TOPICS.of([question]) == topic


def test_only_what_the_person_says_counts_and_what_is_no_record_is_left_out(
    tmp_path: Path,
) -> None:
    turns = [
        {"from": "human", "value": "Apa itu NIB?"},
        {"from": "gpt", "value": "Pajak, pajak, pajak."},
    ]
    file = tmp_path / "held_out.jsonl"
    file.write_text(json.dumps({"id": "a", "conversations": turns}) + '\n{"id": "b"}\n[]\n{\n')
    assert topics_in(file, TOPICS) == {1: "perizinan"}


@pytest.mark.parametrize("file", [Finetune().data[0].file, Evaluate().conversations])
def test_the_words_find_the_topics_that_people_gave_to_the_starter_data(file: Path) -> None:
    """The part of an id before its number is the topic; 8 of 10 are found, and `kur` is modal."""
    records = json.loads((PROJECT / file).read_text())
    told = [(each["id"].removeprefix("uji-").rpartition("-")[0], each) for each in records]
    labelled = [({"kur": "modal"}.get(name, name), each) for name, each in told]
    found = [
        name == TOPICS.of([t["value"] for t in each["conversations"] if t["from"] == "human"])
        for name, each in labelled
        if name in TOPICS.patterns
    ]
    assert len(found) > 20
    assert sum(found) / len(found) > 0.75


def test_the_first_question_counts_most() -> None:
    assert TOPICS.of(["Apa itu NIB?", "Kena pajak? Pajak apa?"]) == "perizinan"
