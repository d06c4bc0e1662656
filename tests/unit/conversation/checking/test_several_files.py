"""Several files judged as one: what is wrong with one, what stands in two, and where."""

import json
from pathlib import Path

import pytest

from tasks.core.conversation.checking.leaks import find_leaks
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.checking.summary import render_summary
from tasks.core.conversation.reading import chunks, parallel
from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.records import BadRecord, RecordFault
from tasks.core.errors import DataError
from tasks.core.recipe.data import DataFormat
from tests.unit.conversation.checking.test_screening import good, record

ANY = Rules(language=None, max_dropped_share=0.5)


def messages(id: str) -> dict[str, object]:
    turns = good(id)["conversations"]
    assert isinstance(turns, list)
    roles = {"human": "user", "gpt": "assistant"}
    said = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in turns]
    return {"messages": said}


def file(
    path: Path, *records: object, lines: bool = False, format: DataFormat = "auto"
) -> DataFile:
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
    path.write_text(text)
    return DataFile(path, path.name, format)


def test_a_file_that_is_not_there_is_named_before_anything_is_judged(tmp_path: Path) -> None:
    named: list[BadRecord] = []
    bad = file(tmp_path / "a.json", {"id": "x"})
    with pytest.raises(DataError, match=r"none\.json"):
        screen([bad, DataFile(tmp_path / "none.json", "none.json")], ANY, on_bad=named.append)
    assert named == []


def test_a_bad_record_is_named_with_its_file_and_its_position_there(tmp_path: Path) -> None:
    one = file(tmp_path / "a.json", *map(good, "abc"))
    other = file(tmp_path / "b.jsonl", good("d"), record("sepi", "Halo"), lines=True)
    named: list[BadRecord] = []
    found = screen([one, other], ANY, on_bad=named.append)
    assert [str(each) for each in named] == ["b.jsonl, record 2 (sepi): no turn of the assistant"]
    assert [(each.records, each.dropped) for each in found.files] == [(3, 0), (2, 1)]


def test_what_stands_in_two_formats_is_a_duplicate_and_the_first_stays(tmp_path: Path) -> None:
    one = file(tmp_path / "a.json", *map(good, "abc"))
    other = file(tmp_path / "b.jsonl", messages("x"), messages("b"), lines=True)
    found = screen([one, other], ANY)
    assert found.faults == {RecordFault.DUPLICATE: 1}
    (bad,) = found.first_bad
    assert "b.jsonl, record 2" in str(bad)
    assert "says the same as a.json, record 2 (b)" in bad.reason
    assert [each.file.format for each in found.files] == ["fastchat", "openai"]
    ids = [conversation.id for _, conversation in found.conversations()]
    assert ids[:3] == ["a", "b", "c"] and len(ids) == 4


def test_a_broken_array_ends_its_own_file_only(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        f'[{json.dumps(good("a"))}, {{"id": , {json.dumps(good("b"))}]'
    )
    broken = DataFile(tmp_path / "a.json", "a.json")
    found = screen([broken, file(tmp_path / "b.json", *map(good, "cd"))], ANY)
    assert found.faults == {RecordFault.NOT_JSON: 1}
    assert [c.id for _, c in found.conversations()] == ["a", "c", "d"]


@pytest.mark.parametrize("processes", [1, 3])
def test_the_same_is_found_by_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(chunks, "RECORD_CHUNK_BYTES", 2000)
    monkeypatch.setattr(parallel, "_ENOUGH_BYTES", 0)
    broken = f"[{', '.join(json.dumps(good(f'r{n}')) for n in range(20))}, {{"
    (tmp_path / "a.json").write_text(broken + ", " * 20 + json.dumps([good("z")] * 9))
    files = [
        DataFile(tmp_path / "a.json", "a.json"),
        file(tmp_path / "b.jsonl", *(messages(f"m{n}") for n in range(20)), lines=True),
        file(tmp_path / "c.json", *(good(f"r{n}") for n in range(10, 30))),
    ]
    named: list[str] = []
    found = screen(files, ANY, processes=processes, on_bad=lambda one: named.append(str(one)))
    assert [(each.records, each.dropped) for each in found.files] == [(21, 1), (20, 0), (20, 10)]
    assert named[0].startswith("a.json, record 21: not JSON")
    assert [each.partition(":")[0] for each in named[1:]] == [
        f"c.json, record {n} (r{9 + n})" for n in range(1, 11)
    ]
    assert len(list(found.conversations())) == 50


def test_the_report_says_how_each_file_was_read(tmp_path: Path) -> None:
    one = file(tmp_path / "a.json", good("a"))
    other = file(tmp_path / "b.json", messages("b"), {"id": "x"})
    told = render_summary(screen([one, other], ANY))
    assert "a.json: FastChat's format, 1 records, 0 dropped\n" in told
    assert "b.json: OpenAI's format, 2 records, 1 dropped\n3 records: 2 kept" in told


def test_a_leak_names_the_source_that_it_stands_in(tmp_path: Path) -> None:
    training = [
        file(tmp_path / "a.json", *map(good, "abc")),
        file(tmp_path / "b.json", messages("d"), messages("e")),
    ]
    held_out = file(tmp_path / "held.json", good("e"), good("b"), good("x"))
    found = find_leaks(training, held_out.path).first(None)
    assert (found.training_records, found.held_out_records, found.exact) == (5, 3, 2)
    told = [str(leak).rpartition("says the same as ")[2] for leak in found.first]
    assert told[0].startswith("training record 2 (") and told[0].endswith(") of b.json")
    assert told[1] == "training record 2 (b) of a.json"
