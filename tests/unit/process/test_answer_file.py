"""What a child process leaves: an answer, an error, or something that neither is."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from tasks.core.errors import EditLost, EvaluationFailed
from tasks.core.process.answer_file import error_in, error_left_in, read_answer


class Answer(BaseModel):
    figure: float


GARBAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'{"error": []}',
    b'{"error": {"error": "EditLost"}}',
    b"\xff",
]
GARBAGE += [b"[" * 100_000, b'{"error": {"error": 1, "what": 2}}']


@pytest.mark.parametrize("content", GARBAGE, ids=lambda content: repr(content[:20]))
def test_what_is_no_answer_is_explained_with_its_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    path.write_bytes(content)
    with pytest.raises(EvaluationFailed, match="cannot be read") as caught:
        read_answer(path, Answer, error=EvaluationFailed)
    assert caught.value.where == str(path)
    assert error_left_in(path) is None


def test_an_answer_that_is_missing_or_a_directory_is_explained(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(EvaluationFailed, match="cannot be read"):
            read_answer(path, Answer, error=EvaluationFailed)
        assert error_left_in(path) is None


def test_an_error_comes_back_as_the_one_that_it_was() -> None:
    error = EditLost("It is gone.", where="here", expected="gelu", found="silu", next_step="Again.")
    told = error_in(json.dumps({"error": error.as_dict()}))
    assert isinstance(told, EditLost)
    assert told.as_dict() == error.as_dict()
