"""Files that are not what is expected as a whole: named once, with a remedy that works."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.conversation.reading.scan import scan
from tasks.core.conversation.records import BadRecord
from tasks.core.errors import DataError
from tests.conversations import load_conversations

GOOD = {
    "id": "satu",
    "conversations": [{"from": "human", "value": "Halo"}, {"from": "gpt", "value": "Apa kabar?"}],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conversation.json"


def refused(file: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        list(scan(file))
    return caught.value


def pretty(value: object) -> str:
    return json.dumps(value, indent=2)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (pretty({"data": [GOOD, GOOD]}), "one JSON object with the conversations in its field `d"),
        (pretty(GOOD), "one JSON object, not a list of conversations"),
        ("\n\n" + pretty(GOOD), "one JSON object, not a list of conversations"),
        (pretty(GOOD) + "\n" + pretty(GOOD), "JSON objects one after another, each over several"),
        (json.dumps({"data": [GOOD, GOOD]}), "one JSON object with the records in its field `data"),
        ('"a text"', "a JSON string"),
        (json.dumps(json.dumps([GOOD])), "a JSON string that holds JSON: it was encoded twice"),
        ("7", "one JSON value, 7"),
        ("id,question,answer\n1,Halo,Baik\n", "a table (CSV) with the columns id, question"),
        ('"id";"question"\n"1";"Halo"\n', "a table (CSV) with the columns id, question"),
        ("id\tquestion\n1\tHalo\n", "a table (CSV) with the columns id, question"),
        ("Halo, apa kabar?", "text that is not JSON; it begins with 'Halo, apa"),
        (str([GOOD]), "written as Python shows values"),
        (str(GOOD), "written as Python shows values"),
        (f"{GOOD}\n{GOOD}\n", "written as Python shows values"),
    ],
)
def test_a_file_that_is_something_else_is_named_once(file: Path, content: str, found: str) -> None:
    file.write_text(content)
    error = refused(file)
    assert error.found is not None and error.found.startswith(found)
    assert error.next_step


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (json.dumps([GOOD]).encode("utf-16"), "a text in UTF-16"),
        (json.dumps([GOOD]).encode("utf-16-le"), "a text in UTF-16LE"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b\x08", "a file packed with gzip"),
        (b"\x80\x04\x95", "a pickle"),
    ],
)
def test_a_file_of_another_kind_is_named(file: Path, content: bytes, found: str) -> None:
    file.write_bytes(content)
    assert str(refused(file).found).startswith(found)


@pytest.mark.parametrize("content", ["", " \n\n", "\ufeff"])
def test_an_empty_file_is_called_empty(file: Path, content: str) -> None:
    file.write_text(content)
    assert refused(file).found == "an empty file: it holds no conversation"


def test_an_object_over_several_lines_that_is_broken_names_the_line(file: Path) -> None:
    file.write_text(pretty(GOOD).replace('"Halo"', '"Halo'))
    error = refused(file)
    assert "and broken" in str(error.found)
    assert "line 6" in str(error.found)


@pytest.mark.parametrize(
    ("value", "indent"), [({"data": [GOOD, GOOD]}, 2), ({"data": [GOOD, GOOD]}, None), (GOOD, 2)]
)
def test_the_command_that_an_error_names_makes_a_file_that_can_be_read(
    file: Path, tmp_path: Path, value: object, indent: int | None
) -> None:
    file.write_text(json.dumps(value, indent=indent))
    command = str(refused(file).next_step).split("`")[1]
    command = command.replace("FILE", shlex.quote(str(file))).replace("NEW", str(tmp_path / "new"))
    command = command.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert [one.id for one in load_conversations(tmp_path / "new")] in (["satu"], ["satu", "satu"])


def test_python_lists_are_converted_by_the_command_that_is_named(
    file: Path, tmp_path: Path
) -> None:
    file.write_text(str([GOOD]))
    command = str(refused(file).next_step).split("`")[3]
    command = command.replace("FILE", str(file)).replace("NEW", str(tmp_path / "new"))
    command = command.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert [one.id for one in load_conversations(tmp_path / "new")] == ["satu"]


def test_a_large_object_is_named_without_being_held(file: Path) -> None:
    import tracemalloc

    good = json.dumps(GOOD)
    file.write_text('{\n"data": [\n' + f"{good},\n" * 60_000 + good + "\n]\n}\n")
    assert file.stat().st_size > 6_000_000
    tracemalloc.start()
    error = refused(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "one JSON object over many lines" in str(error.found)
    assert peak < 50e6


def test_records_on_lines_of_their_own_in_a_broken_object_are_no_json_lines(file: Path) -> None:
    good = json.dumps(GOOD)
    file.write_text(f'{{"data": [\n{good},\n{good}\n{good}\n]}}\n')
    assert "one JSON object over several lines, and broken" in str(refused(file).found)
    assert "line 4" in str(refused(file).found)


@pytest.mark.parametrize("first", ['{"id": ', "x", '{"id": "x', "'"])
def test_lines_whose_first_is_broken_are_still_lines(file: Path, first: str) -> None:
    good = json.dumps(GOOD)
    file.write_text(f"{first}\n{good}\n{good}\n")
    assert len(list(scan(file))) == 3


@pytest.mark.parametrize("content", ["a" * 200_000 + "\nb\n", 'a,"b\n' + "c" * 200_000])
def test_a_text_with_a_line_longer_than_a_field_of_a_table_is_named(
    file: Path, content: str
) -> None:
    file.write_text(content)
    assert "text that is not JSON" in str(refused(file).found)


def test_the_only_line_with_a_field_that_stands_twice_is_one_bad_record(file: Path) -> None:
    file.write_text(json.dumps(GOOD).replace('"id"', '"id": "dua", "id"') + "\n")
    [(_, bad)] = scan(file)
    assert isinstance(bad, BadRecord) and "`id` stands in one object twice" in bad.reason
