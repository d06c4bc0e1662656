"""Records in the formats that people have: read, or named once for a file or as a bad record."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.conversation.formats import format_of
from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.reading.scan import scan
from tasks.core.conversation.records import BadRecord, Conversation, RecordFault
from tasks.core.errors import DataError
from tasks.core.recipe.data import DataFormat
from tests.conversations import load_conversations

TURNS = [{"from": "human", "value": "Halo"}, {"from": "gpt", "value": "Apa kabar?"}]
GOOD = {"id": "satu", "conversations": TURNS}
MESSAGES = [{"role": "user", "content": "Halo"}, {"role": "assistant", "content": "Apa kabar?"}]
READ = {
    "OpenAI's format": {"messages": MESSAGES},
    "turns with the fields `role`, `content`": {"id": "x", "conversations": MESSAGES},
    "the speaker `user`": {
        "id": "x",
        "conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}],
    },
    "turns with the fields `speaker`, `text`": {
        "id": "x",
        "conversations": [{"speaker": "user", "text": "a"}, {"speaker": "bot", "text": "b"}],
    },
    "records without an `id`": {"conversations": TURNS},
    "in the field `system`": {**GOOD, "system": "Jawablah singkat."},
    "turns in the field `conversation`": {"conversation": TURNS},
    "turns in the field `items`": {"items": TURNS},
    "turns in the field `messages`": {"messages": TURNS},
    "field `messages`": {"messages": [{"role": "user", "text": "a"}, {"role": "bot", "text": "b"}]},
    "lists of turns": MESSAGES,
}
REFUSED = {
    "Alpaca: ": {"instruction": "Halo?", "input": "", "output": "Baik."},
    "a question in `prompt`": {"prompt": "Halo?", "completion": "Baik."},
    "in the field `text`": {"text": "Halo."},
    "texts, without speakers": "Halo.",
}
DIVIDED = ("Alpaca: ", "a question in `prompt`")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conversation.json"


def written(file: Path, record: object, *, lines: bool) -> Path:
    records = [json.dumps(record)] * 5
    in_lines = lines and not isinstance(record, list)  # whose first line would be the whole array
    file.write_text("\n".join(records) if in_lines else f"[{','.join(records)}]")
    return file


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_in_a_format_that_is_not_read_gives_one_error_that_names_it(
    file: Path, name: str, lines: bool
) -> None:
    with pytest.raises(DataError, match="in no format that is read") as caught:
        list(scan(written(file, REFUSED[name], lines=lines)))
    assert name in str(caught.value.found)
    assert caught.value.next_step


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("name", READ)
def test_a_file_in_a_format_that_is_read_gives_what_fastchats_would(
    file: Path, name: str, lines: bool
) -> None:
    found = format_of(READ[name])
    assert found is not None and name in found.name
    records = load_conversations(written(file, READ[name], lines=lines))
    assert len(records) == 5
    for one in records:
        assert [turn.speaker for turn in one.turns] == ["human", "gpt"]
        assert one.id
        assert (one.system is not None) == ("system" in name)


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("name", DIVIDED)
def test_the_script_of_the_documentation_makes_fastchats_format_of_it(
    file: Path, name: str, lines: bool
) -> None:
    documentation = Path(__file__).parents[3] / "docs" / "data.md"
    script = documentation.read_text().split("```python\n")[1].split("```")[0]
    given = written(file, REFUSED[name], lines=lines).read_text()
    command = [sys.executable, "-c", script]
    made = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    file.write_text(made.stdout)
    assert [len(one.turns) for one in load_conversations(file)] == [2] * 5


@pytest.mark.parametrize(
    ("named", "record"),
    [("openai", GOOD | {"id": 7}), ("sharegpt", {"text": "Halo."}), ("fastchat", MESSAGES)],
)
def test_a_file_that_is_not_what_it_is_said_to_be_gives_no_conversation(
    file: Path, named: DataFormat, record: object
) -> None:
    data = DataFile(written(file, record, lines=False), "data", named)
    try:
        assert all(isinstance(each, BadRecord) for _, each in scan(data))
    except DataError as refused:
        assert "not in the format that is named" in refused.what


def test_a_named_format_is_taken_where_the_first_records_would_mislead(file: Path) -> None:
    without_id = {"conversations": TURNS}
    file.write_text(json.dumps([*[GOOD] * 4, without_id]))
    assert [type(each) for _, each in scan(file)] == [*[Conversation] * 4, BadRecord]
    data = DataFile(file, "data", "sharegpt")
    assert [type(each) for _, each in scan(data)] == [Conversation] * 5


@pytest.mark.parametrize("first", [0, 1])
def test_one_record_of_fastchats_among_sharegpts_does_not_drop_the_others(
    file: Path, first: int
) -> None:
    records = [GOOD, {"conversations": TURNS}, READ["the speaker `user`"]]
    file.write_text(json.dumps([*records[first:], *records[:first]]))
    assert [type(each) for _, each in scan(file)] == [Conversation] * 3


@pytest.mark.parametrize("strange", [{"text": "Halo."}, {"instruction": "a", "output": "b"}, 5])
def test_one_strange_record_at_the_beginning_does_not_refuse_the_file(
    file: Path, strange: object
) -> None:
    file.write_text(json.dumps([strange, GOOD, GOOD]))
    (_, bad), *others = scan(file)
    assert isinstance(bad, BadRecord)
    assert [type(each) for _, each in others] == [Conversation] * 2


def test_a_record_in_another_format_among_good_ones_is_one_bad_record(file: Path) -> None:
    other = {"id": "lain", "messages": MESSAGES}
    file.write_text(json.dumps([GOOD, other, GOOD]))
    _, (_, bad), (_, after) = scan(file)
    assert isinstance(bad, BadRecord) and isinstance(after, Conversation)
    assert "OpenAI's format" in bad.reason


def test_a_system_message_beside_the_turns_is_not_lost_in_silence(file: Path) -> None:
    file.write_text(json.dumps([*[GOOD] * 4, READ["in the field `system`"]]))
    *_, (_, bad) = scan(file)
    assert isinstance(bad, BadRecord) and bad.fault is RecordFault.WRONG_FIELDS
    assert "system" in bad.reason


def test_other_fields_are_ignored(file: Path) -> None:
    file.write_text(json.dumps([{**GOOD, "system": None, "tools": "", "text": "x", "lang": "id"}]))
    assert len(load_conversations(file)) == 1


def test_other_fields_of_a_turn_are_ignored(file: Path) -> None:
    turns = [{**turn, "role": "user", "text": "", "speaker": 1} for turn in TURNS]
    file.write_text(json.dumps([{"id": "satu", "conversations": turns}]))
    assert [one.id for one in load_conversations(file)] == ["satu"]


@pytest.mark.parametrize("lines", [False, True])
def test_a_field_that_stands_twice_is_a_bad_record(file: Path, lines: bool) -> None:
    good, turns = json.dumps(GOOD), json.dumps(TURNS)
    twice = f'{{"id": "dua", "conversations": {turns}, "conversations": {turns}}}'
    file.write_text(f"{good}\n{twice}\n{good}\n" if lines else f"[{good}, {twice}, {good}]")
    (_, first), (position, bad), (_, last) = scan(file)
    assert isinstance(first, Conversation) and isinstance(last, Conversation)
    assert isinstance(bad, BadRecord)
    assert (position, bad.id, bad.fault) == (2, "dua", RecordFault.WRONG_FIELDS)
    assert "`conversations` stands in one object twice" in bad.reason


def test_a_byte_that_is_not_utf8_costs_one_record_of_an_array(file: Path) -> None:
    broken = {"id": "dua", "conversations": [TURNS[0], {"from": "gpt", "value": "caf#"}]}
    text = json.dumps([GOOD, broken, GOOD]).encode().replace(b"caf#", b"caf\xe9")
    file.write_bytes(text)
    (_, first), (_, bad), (_, last) = scan(file)
    assert isinstance(first, Conversation) and isinstance(last, Conversation)
    assert isinstance(bad, BadRecord) and bad.fault is RecordFault.NOT_UTF8


@pytest.mark.parametrize("id", ["\ud83d", "\udce9"])
def test_an_id_that_cannot_be_printed_is_a_bad_record_that_can(file: Path, id: str) -> None:
    file.write_text(json.dumps([GOOD, {"id": id, "conversations": TURNS}]))
    _, (_, bad) = scan(file)
    assert isinstance(bad, BadRecord) and bad.fault is RecordFault.NOT_UTF8
    str(bad).encode()
