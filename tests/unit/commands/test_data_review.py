"""`kawan-usaha data review`: by keys, and by words for scripts."""

import json
from pathlib import Path

import pytest

from tasks.core.collected.review.reading import Collected, read_collected
from tasks.core.collected.storage.directory import COLLECTED
from tests.collected import Kept
from tests.command_line import kawan_usaha


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path))
    kept = Kept(tmp_path / "serving" / "warung" / COLLECTED)
    kept.answer("liked", "Satu?", "Baik.", rated="up")
    kept.answer("disliked", "Dua\x1b[2J?", "Buruk.", rated="down", correction="Bagus.")
    return kept


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command with what is typed, and return exit code, output and errors."""

    def one(*words: object, keys: str = "") -> tuple[int, str, str]:
        typed = tmp_path / "typed"
        typed.write_text(keys)
        with typed.open() as given:
            monkeypatch.setattr("sys.stdin", given)
            return kawan_usaha(
                monkeypatch, capsys, "data", "review", *map(str, words or ("warung",))
            )

    return one


def editor(path: Path, line: str) -> str:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)
    return str(path)


def reviews(kept: Kept) -> dict[str, tuple[str, str | None, str]]:
    found: list[Collected] = list(read_collected(kept.directory))
    return {
        each.answer.id: (each.review.decision, each.review.answer, each.review.reviewer)
        for each in found
        if each.review is not None
    }


@pytest.mark.parametrize(
    "words",
    [
        ("lain",),
        ("../warung",),
        ("warung", "--accept", "nobody"),
        ("warung", "--accept", "liked", "--reject", "disliked"),
        ("warung", "--list", "--accept", "liked"),
        ("warung", "--answer-file", "x"),
        ("warung", "--reject", "liked", "--answer-file", "x"),
        ("warung", "--accept", "liked", "--answer-file", "not there"),
        ("warung", "--list", "--limit", "0"),
        ("warung", "--accept", "liked", "--as", " "),
    ],
)
def test_words_that_do_not_fit_are_told_and_nothing_is_decided(run, kept, words):
    code, _, errors = run(*words)
    assert code in (1, 2)
    assert "Traceback" not in errors
    assert reviews(kept) == {}
    assert not (kept.directory.parents[1] / "lain").exists()


def test_an_answer_file_that_is_no_text_is_told(run, kept, tmp_path):
    (tmp_path / "answer").write_bytes(b"\xff\xfe")
    code, _, errors = run("warung", "--accept", "liked", "--answer-file", tmp_path / "answer")
    assert (code, "UTF-8" in errors) == (2, True)
    assert reviews(kept) == {}


def test_an_editor_that_does_not_work_is_named_and_nothing_is_decided(run, kept, monkeypatch):
    monkeypatch.setenv("VISUAL", "/not/there")
    code, _, errors = run("warung", keys="e\na\n")
    assert (code, "EDITOR" in errors) == (1, True)
    assert reviews(kept) == {}


def test_where_the_input_ends_nothing_more_is_decided(run, kept):
    assert run("warung", keys="r\n")[0] == 0
    assert reviews(kept).keys() == {"disliked"}


def test_what_a_terminal_would_act_on_is_not_shown(run, kept):
    for words in (("warung",), ("warung", "--list")):
        _, output, _ = run(*words, keys="q\n")
        assert "\x1b[2J" not in output
        assert "Dua" in output


def test_the_worst_rated_is_shown_first_and_each_key_does_its_work(
    run, kept, monkeypatch, tmp_path
):
    monkeypatch.setenv("VISUAL", editor(tmp_path / "editor", 'printf "Baik sekali." > "$1"'))
    code, output, _ = run("warung", "--as", "rina", keys="x\nc\na\ne\na\n")
    assert code == 0
    assert output.index("Buruk.") < output.index("Baik.")
    assert "rated: down" in output
    assert "No more answers wait." in output
    assert reviews(kept) == {
        "disliked": ("accept", "Bagus.", "rina"),
        "liked": ("accept", "Baik sekali.", "rina"),
    }


def test_what_is_skipped_waits_and_is_counted(run, kept):
    _, output, _ = run("warung", keys="s\ns\n")
    assert "2 were skipped" in output
    assert reviews(kept) == {}


def test_a_script_lists_accepts_and_rejects(run, kept, tmp_path):
    code, output, _ = run("warung", "--list", "--json")
    listed = json.loads(output)
    assert (code, listed["waiting"]) == (0, 2)
    assert [each["id"] for each in listed["answers"]] == ["disliked", "liked"]
    assert listed["answers"][0]["correction"] == "Bagus."
    (tmp_path / "answer").write_text("Bagus sekali.\n")
    run("warung", "--accept", "disliked", "--answer-file", tmp_path / "answer", "--as", "skrip")
    _, output, _ = run("warung", "--reject", "liked", "--as", "skrip", "--json")
    assert json.loads(output)["decision"] == "reject"
    assert reviews(kept) == {
        "disliked": ("accept", "Bagus sekali.", "skrip"),
        "liked": ("reject", None, "skrip"),
    }
    assert "No answer waits" in run("warung", "--list")[1]


def test_a_decision_can_be_changed_by_a_script(run, kept):
    run("warung", "--accept", "liked", "--as", "satu")
    run("warung", "--reject", "liked", "--as", "dua")
    assert reviews(kept)["liked"] == ("reject", None, "dua")


def test_without_a_name_the_only_deployment_is_meant(run, kept):
    assert run("--list")[0] == 0
    Kept(kept.directory.parents[1] / "lain" / COLLECTED)
    code, _, errors = run("--list")
    assert (code, "lain, warung" in errors) == (2, True)
