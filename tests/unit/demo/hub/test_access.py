"""The file that holds the tokens of the embedded Hub."""

import json
import traceback
from pathlib import Path

import pytest

from tasks.core.demo.hub.access import load_tokens
from tasks.core.errors import UsageError

SECRET = "hf_sesame"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps({SECRET: {"user": "warung", "role": "admin"}}), "role: "),
        (json.dumps({SECRET: SECRET}), "tokens.json"),
        (f'{{"{SECRET}": ', "Invalid JSON"),
        (f"{SECRET}\n", "Invalid JSON"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_read_is_refused_without_showing_one(
    tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "tokens.json").write_text(content)
    with pytest.raises(UsageError, match=words) as refused:
        load_tokens(tmp_path)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
