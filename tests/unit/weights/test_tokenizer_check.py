"""What tokenizers and transformers would refuse later is refused before a model is passed on."""

import json
from pathlib import Path

import pytest

from tasks.core.errors import NotAModel
from tasks.core.weights.tokenizer_check import require_tokenizer
from tests.models import tiny_tokenizer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_whole_tokenizer_passes(model: Path) -> None:
    require_tokenizer(model)


def test_a_directory_without_a_tokenizer_passes(tmp_path: Path) -> None:
    require_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [{"added_tokens": [None]}, {"padding": 1}, {"post_processor": {"type": "none"}}, {"model": {}}],
)
def test_a_tokenizer_that_its_library_does_not_load_is_named(
    model: Path, fields: dict[str, object]
) -> None:
    change(model / "tokenizer.json", **fields)
    with pytest.raises(NotAModel, match="cannot be loaded from these files") as caught:
        require_tokenizer(model)
    assert str(model / "tokenizer.json") in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"unk_token": 1},
        {"bos_token": []},
        {"pad_token": {"id": 3}},
        {"tokenizer_class": True},
        {"model_max_length": ""},
    ],
)
def test_a_value_of_another_kind_is_named(model: Path, fields: dict[str, object]) -> None:
    change(model / "tokenizer_config.json", **fields)
    with pytest.raises(NotAModel, match="another type") as caught:
        require_tokenizer(model)
    assert next(iter(fields)) in str(caught.value)


def test_special_tokens_with_their_options_pass(model: Path) -> None:
    change(model / "tokenizer_config.json", unk_token={"content": "<unk>", "lstrip": False})
    require_tokenizer(model)
