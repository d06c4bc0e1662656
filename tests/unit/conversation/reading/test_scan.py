import json
from pathlib import Path

import pytest

from tasks.core.conversation.reading import chunks
from tasks.core.conversation.reading.scan import find_record, scan
from tasks.core.conversation.records import BadRecord, Conversation, RecordFault, Turn
from tasks.core.errors import DataError
from tests.conversations import load_conversations

GOOD = {
    "id": "satu",
    "conversations": [{"from": "human", "value": "Halo"}, {"from": "gpt", "value": "Apa kabar?"}],
}


def record(*turns: tuple[str, object], id: object = "x") -> dict[str, object]:
    return {"id": id, "conversations": [{"from": who, "value": what} for who, what in turns]}


def records(path: Path) -> list[Conversation | BadRecord]:
    return [record for _, record in scan(path)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conversation.json"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (7, "not an object but int"),
        (record(("human", "a"), ("gpt", "b"), id=None), "`id` is missing or not text"),
        ({"id": "x"}, "`conversations` is missing or not a list"),
        (record(), "no turn of the assistant"),
        (record(("human", "a")), "no turn of the assistant"),
        (record(("gpt", "a"), ("human", "b")), "turn 1: gpt speaks where human is expected"),
        (record(("human", "a"), ("human", "b")), "turn 2: human speaks where gpt is expected"),
        (record(("human", "a"), ("bot", "b")), 'turn 2: unknown speaker "bot"'),
        (record(("human", "a"), ("gpt", " \n")), "turn 2 is empty"),
        (record(("human", "a"), ("gpt", 7)), "turn 2: `value` is missing or not text"),
        (record(("human", "a"), ("gpt", "\ud83d")), "turn 2 holds half of a surrogate pair"),
        (record(("human", "a"), ("system", "b")), "turn 2: system speaks where gpt"),
    ],
)
def test_a_bad_record_is_named_with_position_id_and_reason(
    file: Path, raw: object, reason: str
) -> None:
    file.write_text(json.dumps([GOOD, raw, GOOD]))
    good, bad, after = records(file)
    assert isinstance(good, Conversation) and isinstance(after, Conversation)
    assert isinstance(bad, BadRecord)
    assert bad.position == 2
    assert bad.id == ("x" if isinstance(raw, dict) and raw["id"] else None)
    assert bad.reason.startswith(reason)


@pytest.mark.parametrize("content", ["[]", "[ ]\n"])
def test_an_empty_array_has_no_records(file: Path, content: str) -> None:
    file.write_text(content)
    assert records(file) == []


def test_a_missing_file_is_a_data_error(file: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        records(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[%s, {]", "not JSON: "),
        ("[%s,]", "not JSON: a comma before the closing ]"),
        ('[%s, {"id": "x",}]', "not JSON: a comma before the closing }"),
        ("[%s %s]", "a comma is expected, found {"),
        ("[%s", "a comma is expected, found the end of the file"),
        ('[%s, {"id": "x', "not JSON: Unterminated string"),
        ("[%s] %s", "text follows after the end"),
    ],
)
def test_an_array_is_read_up_to_its_syntax_error(file: Path, content: str, reason: str) -> None:
    file.write_text(content.replace("%s", json.dumps(GOOD)))
    *good, bad = records(file)
    assert [c.id for c in good if isinstance(c, Conversation)] == ["satu"]
    assert isinstance(bad, BadRecord)
    assert bad.reason.startswith(reason)
    assert bad.reason.endswith("nothing after it was read")


def test_bytes_that_are_not_utf8_are_named(file: Path) -> None:
    file.write_bytes(b"[" + json.dumps(GOOD).encode() + b', {"id": "\xff"}]')
    last = records(file)[-1]
    assert isinstance(last, BadRecord)
    assert "not UTF-8" in last.reason


def test_a_broken_line_is_one_bad_record(file: Path) -> None:
    good = json.dumps(GOOD).encode()
    file.write_bytes(b"\n".join([good, b'{"id": ', b"", b'{"id": "\xff"}', good]))
    first, broken, undecodable, last = records(file)
    assert isinstance(first, Conversation) and isinstance(last, Conversation)
    assert isinstance(broken, BadRecord) and isinstance(undecodable, BadRecord)
    assert (broken.position, undecodable.position) == (2, 4)
    assert broken.reason.startswith("not JSON")
    assert undecodable.reason == "not UTF-8 at byte 9 of the line"


def test_array_and_lines_give_the_same_conversations(file: Path, tmp_path: Path) -> None:
    records = [GOOD, record(("system", "s"), ("human", "é🙂"), ("gpt", "b"), id=3)]
    file.write_text(json.dumps(records, indent=2), encoding="utf-8-sig")
    lines = tmp_path / "conversation.jsonl"
    lines.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records))
    assert load_conversations(file) == load_conversations(lines)
    assert load_conversations(file)[1] == Conversation(
        "3", (Turn("human", "é🙂"), Turn("gpt", "b")), "s"
    )


def test_records_longer_than_a_chunk_are_read_whole(file: Path) -> None:
    long = record(("human", "a" * 700_000), ("gpt", "b" * 3_000_000))
    file.write_text(json.dumps([GOOD, long, long, GOOD]))
    assert [len(c.turns[1].text) for c in load_conversations(file)] == [
        10,
        3_000_000,
        3_000_000,
        10,
    ]


def test_a_record_is_found_by_its_position_or_line(file: Path, tmp_path: Path) -> None:
    other = record(("human", "a"), ("gpt", "b"), id="dua")
    file.write_text(json.dumps([GOOD, other]))
    assert find_record(file, 2).id == "dua"
    lines = tmp_path / "lines.jsonl"
    lines.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(other)}\n")
    assert find_record(lines, 3).id == "dua"


def test_a_record_that_is_bad_or_not_there_cannot_be_found(file: Path) -> None:
    file.write_text(json.dumps([GOOD, {"id": "kosong"}]))
    with pytest.raises(DataError, match=r"record 2[\s\S]*`conversations` is missing"):
        find_record(file, 2)
    with pytest.raises(DataError, match=r"record 3[\s\S]*ends before"):
        find_record(file, 3)


@pytest.mark.parametrize("value", ["[" * 100_000, "1" * 5000])
def test_json_that_python_refuses_is_a_bad_line(tmp_path: Path, value: str) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(f"{json.dumps(GOOD)}\n{value}\n{json.dumps(GOOD)}\n")
    _, bad, after = records(lines)
    assert isinstance(bad, BadRecord) and isinstance(after, Conversation)
    assert bad.fault is RecordFault.NOT_JSON


def test_a_line_without_end_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MAX_RECORD_BYTES", 1000)
    lines = tmp_path / "lines.jsonl"
    lines.write_text(f"{json.dumps(GOOD)}\n{'x' * 5000}\n{json.dumps(GOOD)}\n")
    _, bad, after = records(lines)
    assert isinstance(bad, BadRecord) and "longer than" in bad.reason
    assert isinstance(after, Conversation)
