from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoTokenizer

from tasks.core.conversation.tokenizer.identity import tokenizer_digest
from tests.models import tiny_tokenizer


def _saved_with_a_chat_template(tokenizer: Any, path: Path) -> Any:
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.model_max_length = 99
    tokenizer.save_pretrained(path)
    return AutoTokenizer.from_pretrained(path)


def _used(tokenizer: Any, _: Path) -> Any:
    """Truncation and padding stay set in the tokenizer after such a call."""
    tokenizer.pad_token = "</s>"
    tokenizer(["satu", "dua tiga"], padding=True, truncation=True, max_length=4)
    return tokenizer


@pytest.mark.parametrize("change", [_saved_with_a_chat_template, _used])
def test_what_changes_no_token_is_the_same_tokenizer(
    tmp_path: Path, change: Callable[[Any, Path], Any]
) -> None:
    changed = change(tiny_tokenizer(), tmp_path / "saved")
    assert tokenizer_digest(changed) == tokenizer_digest(tiny_tokenizer())


def _normalized(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()


def _cut_otherwise(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def _with_one_more_token(tokenizer: Any) -> None:
    tokenizer.add_tokens(["laba"])


@pytest.mark.parametrize("change", [_normalized, _cut_otherwise, _with_one_more_token])
def test_what_may_change_a_token_is_another_tokenizer(change: Callable[[Any], None]) -> None:
    changed = tiny_tokenizer()
    change(changed)
    assert tokenizer_digest(changed) != tokenizer_digest(tiny_tokenizer())
