"""Whatever an engine or a worker writes is an answer, or an engine that is lost: never a fault."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.serving.gateway.api_error import ApiError
from tasks.core.serving.gateway.chat_shape import ChatChunks
from tasks.core.serving.gateway.completion_shape import CompletionChunks
from tasks.core.serving.gateway.engine_client import (
    AnswerPiece,
    EngineLost,
    _event,
    _refusal,
    _said,
)
from tests.fuzz.mutations import EXAMPLES, ODD

LOGPROBS = {
    "tokens": ["a"],
    "token_logprobs": [-1.0],
    "top_logprobs": [{"a": -1.0}],
    "text_offset": [0],
}


def one_of(honest: Any) -> st.SearchStrategy[Any]:
    return st.just(honest) | ODD


choices = st.fixed_dictionaries(
    {},
    optional={
        "text": one_of("a"),
        "finish_reason": one_of("stop"),
        "logprobs": st.fixed_dictionaries({}, optional={n: one_of(v) for n, v in LOGPROBS.items()})
        | ODD,
        "prompt_logprobs": one_of([None, {"1": {"logprob": -1.0}}]),
    },
)
events = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(choices | ODD, max_size=2) | ODD,
        "usage": st.fixed_dictionaries(
            {}, optional={"prompt_tokens": one_of(1), "completion_tokens": one_of(1)}
        )
        | ODD,
        "error": one_of(None),
    },
)


@settings(max_examples=EXAMPLES or 300)
@given(events | ODD)
def test_an_event_of_any_shape_is_pieces_of_an_answer_or_a_lost_engine(event: Any) -> None:
    try:
        said = _said(_event(json.dumps(event).encode()))
    except EngineLost as error:
        assert str(error)
        return
    for chunks in (ChatChunks("m", answer_id="chatcmpl-1"), CompletionChunks("m")):
        for piece in said:
            if isinstance(piece, AnswerPiece):
                chunks.of(0, piece)


@settings(max_examples=EXAMPLES or 100)
@given(st.sampled_from([400, 401, 413, 422, 429, 500, 503]), st.binary(max_size=20) | ODD)
def test_a_refusal_of_any_shape_is_explained(status: int, body: Any) -> None:
    raw = body if isinstance(body, bytes) else json.dumps({"error": body}).encode()
    error = _refusal(status, raw)
    assert isinstance(error, EngineLost | ApiError)
    assert str(error)


@pytest.mark.parametrize("line", [b"", b"{", b"null", b"[]", b"1", b'"a"', b"[" * 100_000])
def test_a_line_that_is_no_event_is_a_lost_engine(line: bytes) -> None:
    with pytest.raises(EngineLost):
        _event(line)


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999"])
def test_a_count_that_is_no_number_of_tokens_is_a_lost_engine(number: str) -> None:
    line = f'{{"usage": {{"prompt_tokens": {number}, "completion_tokens": 1}}}}'
    with pytest.raises(EngineLost):
        _said(_event(line.encode()))
