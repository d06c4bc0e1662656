"""What a model's files and a recipe's settings must agree on: rows of the embedding, context."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.conversation.tokenizer.model_limits import (
    check_length,
    check_token_ids,
    check_vocabulary,
    require_rows,
)
from tasks.core.errors import DataError, NotAModel, RecipeError
from tests.models import tiny_tokenizer

ROWS = 259  # as many as the tiny tokenizer has tokens
CONFIG: dict[str, object] = {"model_type": "llama", "vocab_size": ROWS}
SETTING = "finetune.max_length_tokens"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def named_by_hand(model: Path, **tokens: object) -> None:
    """Name tokens in tokenizer_config.json that no file gives an id: transformers adds them."""
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **tokens}))


def added(model: Path, **tokens: object) -> None:
    tokenizer = load_tokenizer(model)
    tokenizer.add_special_tokens(tokens)
    tokenizer.save_pretrained(model)


@pytest.mark.parametrize("write", [named_by_hand, added])
@pytest.mark.parametrize(
    ("name", "token"),
    [("pad", "[PAD]"), ("eos", "<|im_end|>"), ("bos", "<|begin|>"), ("unk", "[UNK]")],
)
def test_a_token_that_the_tokenizer_inserts_and_no_row_holds_is_refused(
    model: Path, write: Callable[..., None], name: str, token: str
) -> None:
    write(model, **{f"{name}_token": token})
    with pytest.raises(NotAModel) as refused:
        check_vocabulary(CONFIG, load_tokenizer(model), where=model)
    said = str(refused.value)
    assert f"{name} token has no row" in said
    assert f"{token!r} has the id 259" in said
    assert "ids below 259" in said


def test_tokens_that_no_text_need_hold_are_a_warning_with_their_names(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens(["<image>", "<a>", "<b>", "<c>"])
    (warning,) = check_vocabulary(CONFIG, tokenizer, where=model)
    assert "has 4 token(s)" in warning
    assert "'<image>' (259)" in warning
    assert "and 1 more" in warning


def test_a_tokenizer_with_as_many_tokens_as_rows_or_fewer_is_taken(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    for rows in (ROWS, ROWS + 61):
        assert check_vocabulary({"vocab_size": rows}, tokenizer, where=model) == ()
    assert check_vocabulary({}, tokenizer, where=model) == ()  # not known from here


@pytest.mark.parametrize(
    "named", [{"pad_token_id": 259}, {"eos_token_id": [2, 300]}, {"bos_token_id": 32000}]
)
@pytest.mark.parametrize("nested", [False, True])
def test_an_id_of_the_configuration_beyond_its_own_vocabulary_is_refused(
    named: dict[str, object], nested: bool
) -> None:
    config: dict[str, object] = {**CONFIG, **named}
    with pytest.raises(NotAModel, match="vocab_size"):
        check_token_ids({"text_config": config} if nested else config, where="config.json")


@pytest.mark.parametrize(
    "named", [{}, {"pad_token_id": None}, {"pad_token_id": -1}, {"eos_token_id": [2, 258]}]
)
def test_an_id_within_the_vocabulary_or_none_is_taken(named: dict[str, object]) -> None:
    check_token_ids({**CONFIG, **named}, where="config.json")


def test_a_text_with_a_token_beyond_the_embedding_is_refused() -> None:
    require_rows(CONFIG, 258, where="data")
    require_rows({}, 10**6, where="data")
    with pytest.raises(DataError, match="the id 259"):
        require_rows(CONFIG, 259, where="data")


# --- length -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 256}, 256),
        ({"n_positions": 1024, "model_type": "gpt2"}, 1024),
        ({"text_config": {"max_position_embeddings": 256}}, 256),
        ({"max_position_embeddings": 256, "rope_scaling": {"type": "linear", "factor": 2}}, 512),
        (
            {
                "max_position_embeddings": 1024,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 256,
                },
            },
            1024,
        ),
        (
            {
                "max_position_embeddings": 256,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 4.0},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            1024,
        ),
    ],
)
def test_a_length_up_to_the_context_is_taken_and_one_beyond_it_refused(
    config: dict[str, object], context: int
) -> None:
    assert check_length(config, context, setting=SETTING, model="m") == ()
    with pytest.raises(RecipeError) as refused:
        check_length(config, context + 1, setting=SETTING, model="m")
    said = str(refused.value)
    assert refused.value.where == SETTING
    assert f"at most {context} tokens" in said
    assert "edit.rope_scaling" in said


@pytest.mark.parametrize("rope", [{"factor": "four"}, {"factor": float("inf")}, "linear", None])
def test_an_odd_scaling_does_not_lengthen_the_context(rope: object) -> None:
    config = {"max_position_embeddings": 256, "rope_scaling": rope}
    with pytest.raises(RecipeError, match="at most 256"):
        check_length(config, 512, setting=SETTING, model="m")


def test_of_a_model_that_names_no_positions_nothing_is_said() -> None:
    assert check_length({"model_type": "bloom"}, 4096, setting=SETTING, model="m") == ()


def test_a_model_with_code_of_its_own_is_warned_of() -> None:
    config = {"max_position_embeddings": 256, "auto_map": {"AutoModel": "own.Own"}}
    (warning,) = check_length(config, 512, setting=SETTING, model="m")
    assert "context of m has 256 tokens" in warning


def test_a_model_that_is_only_compared_with_is_warned_of_where_it_computes_positions() -> None:
    llama: dict[str, object] = {"max_position_embeddings": 256, "model_type": "llama"}
    rotary = {"max_position_embeddings": 256, "rope_theta": 1e4}
    for config in (llama, rotary):
        (warning,) = check_length(config, 512, setting=SETTING, model="m", compared=True)
        assert "beyond what it was trained for" in warning
    learned = {"n_positions": 256, "model_type": "gpt2"}  # the table of positions ends there
    with pytest.raises(RecipeError):
        check_length(learned, 512, setting=SETTING, model="m", compared=True)
