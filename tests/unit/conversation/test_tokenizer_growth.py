"""A tokenizer that makes one letter longer than all memory is refused before it is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.conversation.tokenizer_files import load_tokenizer
from tasks.core.errors import NotAModel
from tests.models import tiny_llama


def replaced(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


DOUBLED = replaced({"String": "a"}, "aa")
BOMBS = {
    "doubled again and again": {"type": "Sequence", "normalizers": [DOUBLED] * 40},
    "in sequences of sequences": {
        "type": "Sequence",
        "normalizers": [{"type": "Sequence", "normalizers": [DOUBLED] * 20}] * 2,
    },
    "at once": replaced({"String": "a"}, "a" * 5000),
    "between all letters": {
        "type": "Sequence",
        "normalizers": [replaced({"Regex": ""}, "ab")] * 10,
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=1)


def with_part(model: Path, name: str, part: dict[str, Any]) -> Path:
    path = model / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: part}))
    return model


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_tokenizer_that_lengthens_without_bounds_is_refused(
    name: str, part: str, model: Path
) -> None:
    bomb = BOMBS[name]
    if part == "decoder" and "normalizers" in bomb:
        bomb = {"type": "Sequence", "decoders": bomb["normalizers"]}
    with pytest.raises(NotAModel, match="beyond all bounds"):
        load_tokenizer(with_part(model, part, bomb))


def test_replacements_as_models_have_them_are_loaded(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path, layers=1)
    spaces = replaced({"String": " "}, "\u2581")
    steps = [{"type": "Prepend", "prepend": "\u2581"}, spaces, replaced({"Regex": " {2,}"}, " ")]
    with_part(model, "normalizer", {"type": "Sequence", "normalizers": steps})
    assert load_tokenizer(model)("a b").input_ids
