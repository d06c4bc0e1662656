"""A tokenizer is loaded in the process that has the tokens: foreign code is not run there."""

import json
from pathlib import Path

import pytest

from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.errors import NotAModel
from tests.models import tiny_tokenizer

_SPY = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast

Path({ran!r}).touch()


class SpyTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tmp_path / "model"


def with_code(model: Path, file: str, reference: dict[str, object]) -> Path:
    """Give a configuration code of its own, and return the file that the code would make."""
    ran = model.parent / "ran"
    (model / "spy.py").write_text(_SPY.format(ran=str(ran)))
    document = json.loads((model / file).read_text())
    (model / file).write_text(json.dumps({**document, **reference}))
    return ran


def test_code_of_a_tokenizer_is_not_run(model: Path) -> None:
    reference = {
        "tokenizer_class": "Spy",
        "auto_map": {"AutoTokenizer": [None, "spy.SpyTokenizer"]},
    }
    ran = with_code(model, "tokenizer_config.json", reference)
    with pytest.raises(NotAModel, match="code of its own is not run"):
        load_tokenizer(model)
    assert not ran.exists()


def test_code_of_a_configuration_is_not_run_for_the_tokenizer_beside_it(model: Path) -> None:
    reference = {"model_type": "spy", "auto_map": {"AutoConfig": "spy.SpyTokenizer"}}
    ran = with_code(model, "config.json", reference)
    assert load_tokenizer(model).tokenize("laba")
    assert not ran.exists()
