"""What cannot be done is refused by name, in a body that old and new clients understand: never 500.

Each of these was 500 or was silently ignored by FastChat's own API server.
"""

import json

import httpx
import pytest
from fastchat.constants import ErrorCode
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.request_body import read_request
from tasks.core.serving.gateway.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    TokenCheckRequest,
)
from tests.fuzz.mutations import EXAMPLES
from tests.unit.serving.gateway.world import CONTEXT, MESSAGES, MODEL_NAME

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "harga", "parameters": {}}}

CHAT = [
    ("tools", {"tools": [TOOL]}),
    ("functions", {"functions": [TOOL["function"]]}),
    ("tool_choice", {"tool_choice": "required"}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("reasoning_effort", {"reasoning_effort": "high"}),
    ("modalities", {"modalities": ["text", "audio"]}),
    ("store", {"store": True}),
    ("temprature", {"temprature": 1}),
    ("temperature", {"temperature": 2.5}),
    ("temperature", {"temperature": "hot"}),
    ("top_p", {"top_p": 1.5}),
    ("max_tokens", {"max_tokens": 0}),
    ("n", {"n": 0}),
    ("stop", {"stop": [""]}),
    ("stop", {"stop": 5}),
    ("top_logprobs", {"top_logprobs": 1}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("messages", {"messages": []}),
    ("messages[0].content", {"messages": [{"role": "user", "content": []}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    ("messages[0].content", {"messages": [{"role": "assistant", "content": None}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": 3}]}),
    ("messages[0].content[0].type", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("messages[0].role", {"messages": [{"role": "tool", "content": "5", "tool_call_id": "1"}]}),
    ("messages[0].role", {"messages": [{"role": "function", "content": "5", "name": "x"}]}),
    (
        "messages[0].tool_calls",
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [TOOL]}]},
    ),
    ("messages[0]", {"messages": ["apa kabar"]}),
]

COMPLETIONS = [
    ("prompt", {"prompt": []}),
    ("prompt[0]", {"prompt": [[]]}),
    ("prompt", {"prompt": {"text": "x"}}),
    ("prompt", {"prompt": [-1]}),
    ("prompt", {"prompt": [10**6]}),
    ("echo", {"echo": True}),
    ("suffix", {"suffix": "x"}),
    ("best_of", {"best_of": 3}),
    ("logprobs", {"logprobs": 21}),
]

EMBEDDINGS = [
    ("input", {"input": []}),
    ("dimensions", {"dimensions": 8}),
    ("encoding_format", {"encoding_format": "hex"}),
]


def refused(answer: httpx.Response, param: str | None, status: int = 400) -> dict:
    body = answer.json()
    assert answer.status_code == status, body
    assert body["object"] == "error"
    assert body["code"] > 0
    assert body["message"] == body["error"]["message"]
    assert body["error"]["param"] == param
    assert body["error"]["type"]
    assert param is None or param.split("[")[0].split(".")[0] in body["message"]
    return body


@pytest.mark.parametrize(("param", "fields"), CHAT, ids=[str(fields) for _, fields in CHAT])
def test_a_chat_with_what_is_not_honoured_is_refused_by_name(door, param, fields):
    before = door.control.state().pieces
    refused(door.chat(**fields), param)
    assert door.control.state().pieces == before  # no engine was asked


@pytest.mark.parametrize(("param", "fields"), COMPLETIONS, ids=[str(f) for _, f in COMPLETIONS])
def test_a_completion_with_what_is_not_honoured_is_refused_by_name(door, param, fields):
    body = {"model": MODEL_NAME, "prompt": "modal", "max_tokens": 2, **fields}
    refused(door.post("/v1/completions", body), param)


@pytest.mark.parametrize(("param", "fields"), EMBEDDINGS, ids=[str(f) for _, f in EMBEDDINGS])
def test_embeddings_with_what_is_not_honoured_are_refused_by_name(door, param, fields):
    refused(door.post("/v1/embeddings", {"model": MODEL_NAME, "input": "a", **fields}), param)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b"null",
        b'{"model": "Kawan-Usaha", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "Kawan-Usaha", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b'{"temperature": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_no_json_of_characters_is_refused(door, raw):
    answer = httpx.post(f"{door.url}/v1/chat/completions", content=raw, timeout=60)
    refused(answer, None)


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_beyond_the_context_gets_fastchats_number_and_words(door, stream):
    long = [{"role": "user", "content": "a" * CONTEXT}]
    body = refused(door.chat(messages=long, stream=stream), None)
    assert body["code"] == ErrorCode.CONTEXT_OVERFLOW == 40303
    assert body["error"]["code"] == "context_length_exceeded"
    tokens = body["message"].split()[13]
    assert body["message"] == (
        f"This model's maximum context length is {CONTEXT} tokens. However, your messages "
        f"resulted in {tokens} tokens. Please reduce the length of the messages."
    )
    assert int(tokens) > CONTEXT


def test_another_models_name_is_refused_with_fastchats_number_and_openais_status(door):
    body = refused(door.chat(model="vicuna"), "model", 404)
    assert body["code"] == ErrorCode.INVALID_MODEL
    assert body["error"]["code"] == "model_not_found"


def test_a_path_that_is_not_there_is_refused_in_the_same_shape(gateway):
    for answer in (
        httpx.get(f"{gateway.url}/v1/files"),
        httpx.get(f"{gateway.url}/v1/completions"),
    ):
        assert answer.status_code in (404, 405)
        assert answer.json()["error"]["code"] == "not_found"


def test_what_asks_for_nothing_is_accepted(door):
    idle = {
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "user": "warung-7",
        "metadata": {"a": "b"},
        "logit_bias": {},
        "presence_penalty": 0,
        "store": False,
        "top_k": -1,
        "repetition_penalty": 1.0,
    }
    answer = door.chat(**idle)
    assert answer.status_code == 200, answer.text


def test_a_body_above_the_limit_is_refused_before_it_is_read(gateway):
    import socket

    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")
    chunks = (b"x" * 65536 for _ in range(100))
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", content=chunks, timeout=60)
    assert refused(answer, None, 413)["error"]["code"] == "request_too_large"


def test_the_numbers_are_fastchats():
    assert {code.name: int(code) for code in FastChatCode}.items() <= {
        code.name: int(code) for code in ErrorCode
    }.items()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from(
    [
        *ChatRequest.model_fields,
        *CompletionRequest.model_fields,
        "input",
        "prompts",
        "tools",
        "user",
    ]
)


@settings(max_examples=max(300, EXAMPLES))
@given(
    kind=st.sampled_from([ChatRequest, CompletionRequest, EmbeddingRequest, TokenCheckRequest]),
    content=st.dictionaries(names, json_values, max_size=6),
)
def test_whatever_is_sent_is_a_request_or_an_error_of_the_clients(kind, content):
    valid = {"model": "m", "messages": MESSAGES, "prompt": "a", "input": "b"}
    fields = {name: value for name, value in valid.items() if name in kind.model_fields}
    try:
        read_request(kind, json.dumps(fields | content).encode())
    except ApiError as error:
        assert error.status == 400


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (ChatRequest, "messages", [{}] * 1000),
        (ChatRequest, "messages", [3] * 1000),
        (ChatRequest, "messages", [{"role": "user", "content": [{}] * 1000}]),
        (ChatRequest, "stop", [{}] * 1000),
        (ChatRequest, "stop_token_ids", ["x"] * 1000),
        (ChatRequest, "logit_bias", {f"x{n}": 1 for n in range(2000)}),
        (CompletionRequest, "prompt", [{}] * 1000),
        (CompletionRequest, "prompt", [["x"] * 1000] * 10),
        (EmbeddingRequest, "input", [{}] * 1000),
        (TokenCheckRequest, "prompts", [{}] * 1000),
    ],
)
def test_a_list_of_wrong_items_is_one_fault(kind, name, value):
    # An error for each of a megabyte's items took three seconds, in which nobody else was served.
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"model": "m", "messages": MESSAGES, name: value})
    assert caught.value.error_count() < 20


@pytest.mark.parametrize(
    ("path", "param", "fields"),
    [
        ("/v1/chat/completions", "messages", {"messages": ""}),
        ("/v1/completions", "prompt", {"prompt": ""}),
        ("/v1/completions", "prompt", {"prompt": ["modal", ""]}),
        ("/v1/embeddings", "input", {"input": ""}),
    ],
)
def test_a_text_without_a_token_is_refused_by_the_name_of_its_field(gateway, path, param, fields):
    refused(gateway.post(path, {"model": MODEL_NAME, **fields}), param)
