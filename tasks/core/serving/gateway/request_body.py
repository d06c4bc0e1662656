"""Parsing the body of a request: valid, or refused with the name of the field.

Fields of OpenAI's API that are not supported are recognized by the types of the `openai` package.
The invariant: whatever the bytes are, the caller gets a request or an ApiError with status 400.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar, get_type_hints

from openai.types import completion_create_params as text_create_params
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from tasks.core.serving.gateway.api_error import ApiError, FastChatCode, refused
from tasks.core.serving.gateway.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    RequestBody,
)

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "use_beam_search": (False,),
    "logit_bias": ({},),
}
"""Values without effect. Some programs always send them."""

LABELS = frozenset(("user", "metadata", "safety_identifier", "prompt_cache_key"))
"""Fields that describe the client and never change an answer."""

Request = TypeVar("Request", bound=RequestBody)

_OPENAI_FIELDS: Mapping[type[RequestBody], frozenset[str]] = {
    ChatRequest: frozenset(get_type_hints(chat_create_params.CompletionCreateParamsBase)),
    CompletionRequest: frozenset(get_type_hints(text_create_params.CompletionCreateParamsBase)),
    EmbeddingRequest: frozenset(get_type_hints(embedding_create_params.EmbeddingCreateParams)),
}


def read_request(kind: type[Request], body: bytes, **unless_said: Any) -> Request:
    """Return the request in a body, with defaults from elsewhere for fields that it lacks.

    Raises ApiError that names the first invalid field.
    """
    content = unless_said | _json_object(body)
    labels = LABELS.difference(_read_labels(kind, content))
    asked = {
        name: value
        for name, value in content.items()
        if name not in labels and _asks_something(name, value)
    }
    for name in asked.keys() - kind.model_fields.keys():
        theirs = name in _OPENAI_FIELDS.get(kind, ())
        why = "is not supported by this server" if theirs else "is not a field of this request"
        raise refused(name, f"`{name}` {why}.")
    try:
        return kind.model_validate(_without_nulls(asked))
    except ValidationError as error:
        raise _explained(error) from None


def read_query(kind: type[Request], fields: Mapping[str, str]) -> Request:
    """Parse the query of a URL. Raises ApiError as `read_request`."""
    for name in fields.keys() - kind.model_fields.keys():
        raise refused(name, f"`{name}` is not a field of this request.")
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise _explained(error) from None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        message = f"The body is not valid JSON: {error}."
        if "hex escape" in str(error):
            message += " A lone surrogate (half of a pair such as \\ud83d\\ude00) is no character."
        raise ApiError(FastChatCode.VALIDATION_TYPE_ERROR, message) from None
    if not isinstance(content, dict):
        raise ApiError(FastChatCode.VALIDATION_TYPE_ERROR, "The body must be a JSON object.")
    return content


def _read_labels(kind: type[RequestBody], content: Mapping[str, Any]) -> Collection[str]:
    """Return the labels that are read: the person matters only if the answer is stored."""
    keeps = content.get("store", "store" not in kind.model_fields) not in (False, None)
    return kind.model_fields.keys() & LABELS if keeps else ()


def _asks_something(name: str, value: Any) -> bool:
    return value is not None and not any(
        type(value) is type(idle) and value == idle for idle in NEUTRAL.get(name, ())
    )


def _without_nulls(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content without null fields of messages."""
    messages = content.get("messages")
    if not isinstance(messages, list):
        return content
    return content | {
        "messages": [
            {name: value for name, value in message.items() if value is not None}
            if isinstance(message, dict)
            else message
            for message in messages
        ]
    }


def _explained(error: ValidationError) -> ApiError:
    """Return the error of the deepest fault, which for a union is the closest alternative."""
    faults = error.errors(include_url=False, include_context=False)
    deepest = max(len(fault["loc"]) for fault in faults)
    nearest = [fault for fault in faults if len(fault["loc"]) == deepest]
    wrong_values = [fault for fault in nearest if not fault["type"].endswith("_type")]
    fault = (wrong_values or nearest)[0]
    param = _param(fault)
    same = wrong_values[:1] or [other for other in nearest if _param(other) == param]
    messages = dict.fromkeys(other["msg"].removeprefix("Value error, ") for other in same)
    out_of_range = fault["type"].startswith(("less_than", "greater_than"))
    code = FastChatCode.PARAM_OUT_OF_RANGE if out_of_range else FastChatCode.VALIDATION_TYPE_ERROR
    return ApiError(code, f"{param}: {', or: '.join(messages)}.", param=param)


def _param(fault: ErrorDetails) -> str:
    """Return the field's name, as in `messages[0].content`, without the branches of a union."""
    if not fault["loc"]:  # of two conflicting fields: the message begins with the first one
        return fault["msg"].removeprefix("Value error, ").split()[0]
    names = [p for p in fault["loc"] if isinstance(p, int) or _is_name(p)]
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in names).lstrip(".")


def _is_name(part: str) -> bool:
    """Return whether a part of a location is a field, not pydantic's name of a union's branch."""
    return part.isidentifier() and part not in ("str", "int", "list")
