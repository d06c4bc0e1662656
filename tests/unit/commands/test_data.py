import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from tasks.core.errors import DataError, UsageError
from tests.models import tiny_tokenizer

ROOT = Path(__file__).parents[3]
ANSWER = {"from": "gpt", "value": "Baik."}
STARTER = ROOT / "data" / "conversation.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_tokenizer().save_pretrained(path)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.json"
    records = json.loads(STARTER.read_text())[:20]
    path.write_text(json.dumps([*records, records[0], {"id": "kosong"}]))
    return path


def test_a_broken_file_is_refused_with_every_record_and_what_to_do(broken: Path) -> None:
    ran = run("check", broken)
    assert ran.exit_code == 1
    assert "record 22 (kosong): `conversations` is missing" in ran.stdout
    assert "record 21 (pemasaran-001): says the same as record 1" in ran.stdout
    assert "Not accepted: 9.1% dropped, at most 2% may be." in ran.stdout
    assert "Keep one of them" in ran.stdout


def test_a_higher_limit_accepts_it(broken: Path) -> None:
    assert run("check", broken, "--max-dropped-share", 0.1).exit_code == 0


def test_a_program_gets_the_same_as_json(broken: Path) -> None:
    ran = run("check", broken, "--json")
    told = json.loads(ran.stdout)
    assert (ran.exit_code, told["accepted"], told["kept"], told["dropped"]) == (1, False, 20, 2)
    assert told["faults"] == {"duplicate": 1, "wrong fields": 1}
    assert [bad["position"] for bad in told["bad"]] == [22, 21]
    assert sum(one["conversations"] for one in told["lengths"]) == 20


def test_another_language_may_be_expected_or_none(broken: Path) -> None:
    assert json.loads(run("check", STARTER, "--language", "en", "--json").stdout)["kept"] == 0
    assert run("check", STARTER, "--language", "any").exit_code == 0


def test_the_starter_set_is_accepted_with_tokens_and_a_picture(model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "lengths.png"
    ran = run("check", STARTER, "--tokenizer", model, "--max-length", 4096, "--picture", picture)
    assert ran.exit_code == 0, ran.output
    assert "Accepted: every record can be learned from." in ran.stdout
    assert "learned: the answers" in ran.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_record_is_shown_with_brackets_where_there_is_no_colour(model: Path) -> None:
    ran = run("show", STARTER, "--record", 1, "--tokenizer", model, "--max-length", 4096)
    first = json.loads(STARTER.read_text())[0]["conversations"]
    assert ran.exit_code == 0, ran.output
    for turn in first:
        answer = f"⟦ {turn['value']}</s>⟧"
        assert (answer in ran.stdout) == (turn["from"] == "gpt")
    assert "0 truncated" in ran.stdout


def test_a_record_that_is_not_there_cannot_be_shown(model: Path) -> None:
    with pytest.raises(DataError, match="cannot be shown"):
        run("show", STARTER, "--record", 999, "--tokenizer", model)


@pytest.mark.parametrize("count", [1, 2000])
@pytest.mark.parametrize("lines", [False, True])
def test_a_pipe_gives_what_the_file_gives(tmp_path: Path, count: int, lines: bool) -> None:
    records = [
        {"id": str(i), "conversations": [{"from": "human", "value": f"a{i}"}, ANSWER]}
        for i in range(count)
    ]
    file = tmp_path / "records"
    file.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    command = [sys.executable, "-c", f"print(open({str(file)!r}).read())"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pipe = f"/dev/fd/{process.stdout.fileno()}"
        ran = run("check", pipe, "--language", "any", "--json")
    told = json.loads(ran.stdout)
    assert (ran.exit_code, told["kept"], told["file"]) == (0, count, pipe)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        run("check", tmp_path / "none.json")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    record = {"id": "satu", "conversations": [{"from": "human", "value": "Halo?"}]}
    good = record | {"chosen": "Halo juga, Bu.", "rejected": "Ya."}
    bad = record | {"id": "dua", "chosen": "Ya.", "rejected": "Ya."}
    path.write_text("".join(json.dumps(each) + "\n" for each in (good, bad)))
    return path


def test_preferences_are_checked_by_their_look(pairs: Path) -> None:
    ran = run("check", pairs)
    assert ran.exit_code == 1
    assert "record 2 (dua): `chosen` and `rejected` are the same answer" in ran.stdout
    assert "of two equal answers neither is better" in ran.stdout


def test_a_preference_is_shown_with_each_of_its_answers(pairs: Path, model: Path) -> None:
    ran = run("show", pairs, "--record", 1, "--tokenizer", model)
    assert "⟦ Halo juga, Bu.</s>⟧" in ran.stdout
    assert "⟦ Ya.</s>⟧" in ran.stdout
    assert "satu, chosen: " in ran.stdout
    assert "satu, rejected: " in ran.stdout


def messages(number: int) -> dict[str, object]:
    """A record of the starter set in OpenAI's format."""
    turns = json.loads(STARTER.read_text())[number]["conversations"]
    roles = {"human": "user", "gpt": "assistant"}
    return {"messages": [{"role": roles[t["from"]], "content": t["value"]} for t in turns]}


def test_several_files_are_checked_together_and_each_says_its_format(
    broken: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text("\n".join(json.dumps(messages(n)) for n in (3, 30, 31)))
    ran = run("check", broken, more)
    assert ran.exit_code == 1
    assert f"{broken}, record 22 (kosong): `conversations` is missing" in ran.stdout
    assert f"says the same as {broken}, record 4 (" in ran.stdout
    assert f"{more}: OpenAI's format, 3 records, 1 dropped" in ran.stdout
    told = json.loads(run("check", broken, more, "--json").stdout)
    assert [each["format"] for each in told["files"]] == ["fastchat", "openai"]
    assert [(each["records"], each["dropped"]) for each in told["files"]] == [(22, 2), (3, 1)]
    assert told["bad"][-1]["file"] == str(more)


def test_a_directory_is_checked_file_by_file(tmp_path: Path) -> None:
    for name, number in (("b.json", 1), ("a.json", 2)):
        (tmp_path / name).write_text(json.dumps([messages(number)]))
    told = json.loads(run("check", tmp_path, "--json").stdout)
    assert [Path(each["file"]).name for each in told["files"]] == ["a.json", "b.json"]
    assert (told["accepted"], told["kept"]) == (True, 2)


def test_a_named_format_is_held_to(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([messages(1)]))
    with pytest.raises(DataError, match="not in the format that is named"):
        run("check", tmp_path / "a.json", "--format", "sharegpt")
    assert run("check", tmp_path / "a.json", "--format", "openai").exit_code == 0


def test_a_record_of_another_format_is_shown_as_it_is_learned(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([messages(0)]))
    shown = [
        run("show", file, "--record", 1, "--tokenizer", model, "--max-length", 4096).stdout
        for file in (STARTER, tmp_path / "a.json")
    ]
    assert shown[0].rpartition("\n\n")[0] == shown[1].rpartition("\n\n")[0]


def test_of_a_directory_with_several_files_no_record_is_shown(model: Path, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps([messages(0)]))
    with pytest.raises(UsageError, match="shown from one file"):
        run("show", tmp_path, "--record", 1, "--tokenizer", model)
