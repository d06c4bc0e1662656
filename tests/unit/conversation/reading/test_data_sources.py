"""Sources of a recipe as files: what is refused, what comes in which order, what decides a key."""

import json
import os
from pathlib import Path

import pytest

from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.reading.data_sources import (
    digest_of_files,
    digest_of_sources,
    files_in,
    local_files,
)
from tasks.core.errors import DataError
from tasks.core.files.digests import sha256_of
from tasks.core.recipe.data import DataSource

RECORDS = json.dumps([{"id": "a", "conversations": []}])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text(RECORDS)
    return tmp_path / "a.json"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        local_files([DataSource(directory=tmp_path / "none")])


def test_a_directory_without_conversations_is_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    (tmp_path / ".hidden.json").write_text(RECORDS)
    (tmp_path / "a.json").mkdir()
    with pytest.raises(DataError, match="no file of conversations"):
        local_files([DataSource(directory=tmp_path)])


def test_a_directory_that_is_named_as_a_file_is_told_how_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Write \{directory: "):
        local_files([DataSource(file=tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every directory")
def test_a_directory_of_somebody_else_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        files_in(tmp_path)


def test_a_directory_gives_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.json", "a.jsonl", "c.txt"):
        (tmp_path / name).write_text(RECORDS)
    source = DataSource(directory=tmp_path, weight=2, format="openai")
    found = local_files([source])
    assert [each.path.name for each in found] == ["a.jsonl", "b.json"]
    assert {(each.weight, each.format) for each in found} == {(2.0, "openai")}


def test_what_was_brought_is_called_what_the_recipe_calls_it(tmp_path: Path) -> None:
    file = tmp_path / "files" / "train.jsonl"
    file.parent.mkdir()
    file.write_text(RECORDS)
    (tmp_path / "manifest.json").write_text("{}")  # of the artifact
    source = DataSource(repo="warung/tanya", revision="v1")
    (found,) = local_files([source], {str(source): tmp_path})
    assert (found.path, found.name) == (file, "warung/tanya@v1")


def test_a_review_that_has_accepted_nothing_yet_is_no_fault_beside_another_source(
    tmp_path: Path, file: Path
) -> None:
    (tmp_path / "collected").mkdir()
    (tmp_path / "collected" / "conversations.jsonl").touch()
    (tmp_path / "collected" / "preferences.jsonl").write_text(RECORDS)
    source = DataSource(collected="kawan-usaha-13b")
    brought = {str(source): tmp_path / "collected"}
    assert [each.path for each in local_files([DataSource(file=file), source], brought)] == [file]
    with pytest.raises(DataError, match="no collected conversation was accepted yet"):
        local_files([source], brought)
    (tmp_path / "collected" / "preferences.jsonl").write_text("")
    with pytest.raises(DataError, match="no accepted answer was edited, or preferred to another"):
        local_files([source], brought, "dpo")


def test_one_plain_file_has_the_digest_of_its_bytes(file: Path) -> None:
    """So what was prepared before there were several sources is found again."""
    assert digest_of_sources([DataSource(file=file)], {}) == sha256_of(file)
    assert digest_of_files(local_files([DataSource(file=file)])) == sha256_of(file)


def test_whatever_decides_what_is_learned_changes_the_digest(tmp_path: Path, file: Path) -> None:
    (tmp_path / "b.json").write_text("[]")
    plain, other = DataSource(file=file), DataSource(file=tmp_path / "b.json")
    kinds = [
        [plain],
        [plain, other],
        [other, plain],
        [DataSource(file=file, weight=2)],
        [DataSource(file=file, format="fastchat")],
        [DataSource(directory=tmp_path)],
    ]
    digests = [digest_of_sources(each, {}) for each in kinds]
    same = [[plain, other], [DataSource(directory=tmp_path)]]  # the same files in the same order
    assert len(set(digests)) == len(kinds) - 1
    assert len({digest_of_sources(each, {}) for each in same}) == 1


def test_of_what_was_brought_only_the_artifact_counts(file: Path) -> None:
    source = DataSource(repo="warung/tanya")
    one, other = (digest_of_sources([source], {str(source): each * 64}) for each in "ab")
    assert one != other


def test_a_file_that_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        digest_of_files([DataFile(tmp_path / "none.json", "none")])
