"""The OpenAPI 3.1 document of the gateway's API, generated from the models that parse requests.

The requests are those of `requests`, plus what `request_body` ignores; the responses are the
`openai` package's. The invariant: even a request of another shape is answered as documented
(tests/fuzz/test_gateway.py uses Schemathesis). What a schema cannot express, such as the length of
the context, is a 400.
"""

from collections.abc import Collection
from functools import cache
from typing import Any

from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tasks.core.serving.gateway.consent import CONSENT_HEADER, FeedbackRequest, ForgetRequest
from tasks.core.serving.gateway.request_body import LABELS, NEUTRAL
from tasks.core.serving.gateway.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ReviewRequest,
    ReviewsQuery,
    TokenCheckRequest,
)

Schema = dict[str, Any]

_REQUESTS = (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    TokenCheckRequest,
    FeedbackRequest,
    ForgetRequest,
    ReviewRequest,
)
_ANSWERS = (ChatCompletion, Completion, CreateEmbeddingResponse, Model)
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
_BASE64: Schema = {"type": "string", "contentEncoding": "base64"}

_ERRORS = {
    400: "The request is invalid or not supported; `error.param` names the field.",
    401: "A key is required, or this one is not valid.",
    403: "Pages of this origin are not allowed, or this key does not permit it.",
    404: "There is no such model, path or answer.",
    408: "The request did not arrive in time.",
    409: "Somebody else decided in the meantime.",
    413: "The request is too long.",
    421: "Another build is served here than the header X-Kawan-Usaha-Build requests.",
    429: "This key has reached a limit, or the server is full; `Retry-After` says when to retry.",
    500: "The gateway failed.",
    503: "Nothing is served now; `Retry-After` says when to retry.",
    504: "The engine did not answer in time.",
}
_ALWAYS = (401, 403, 500)
_ASKED = (400, 404, 408, 413, 421, 429, 503, 504)

_ERROR: Schema = {
    "type": "object",
    "required": ["object", "message", "code", "error"],
    "properties": {
        "object": {"const": "error"},
        "message": {"type": "string"},
        "code": {"type": "integer", "description": "FastChat's number."},
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        },
    },
}
_TOKEN_CHECK: Schema = {
    "type": "object",
    "required": ["prompts"],
    "properties": {
        "prompts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["fits", "tokenCount", "contextLength"],
                "properties": {
                    "fits": {"type": "boolean"},
                    "tokenCount": {"type": "integer"},
                    "contextLength": {"type": "integer"},
                },
            },
        }
    },
}
_DECIDED: Schema = {
    "reviewer": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "decision": {"enum": ["accept", "reject"]},
    "answer": {"type": ["string", "null"]},
}
_REVIEW: Schema = {"type": "object", "required": list(_DECIDED), "properties": _DECIDED}
_COLLECTED: Schema = {
    "id": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "model": {"type": "string"},
    "build": {"type": ["string", "null"]},
    "messages": {"type": "array", "items": {"type": "object"}},
    "answer": {"type": "string"},
    "cut": {"type": "boolean", "description": "Whether it was cut at its length limit."},
    "verdict": {"enum": ["up", "down", None]},
    "correction": {"type": ["string", "null"]},
    "review": {"anyOf": [_REVIEW, {"type": "null"}]},
}

_DELETED: Schema = {
    "type": "object",
    "required": ["deleted"],
    "properties": {"deleted": {"type": "integer", "description": "How many answers."}},
}
_CONSENT: Schema = {
    "name": CONSENT_HEADER,
    "in": "header",
    "schema": {"enum": ["store"]},
    "description": "Counts as `store: true`.",
}


@cache
def document() -> Schema:
    """Return the document. It does not depend on what is served."""
    named = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    check = _post("Whether texts have room for an answer", TokenCheckRequest, _TOKEN_CHECK)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kawan Usaha", "version": "1"},
        "security": [{"key": []}],
        "paths": {
            "/health": _open("The process lives", ()),
            "/ready": _open("An engine answers", (421, 503)),
            "/metrics": _get("Counters, for Prometheus", content={"text/plain": {}}),
            "/openapi.json": _get("This document", {"type": "object"}),
            "/v1/models": _get("What is served", _listed(_ref(Model)), errors=(503,)),
            "/v1/models/{model}": {
                **_get("A model", _ref(Model), errors=(404, 503)),
                "parameters": [named],
            },
            "/v1/chat/completions": {
                **_post("Answer a conversation", ChatRequest, _ref(ChatCompletion), streams=True),
                "parameters": [_CONSENT],
            },
            "/v1/completions": _post(
                "Continue a text", CompletionRequest, _ref(Completion), streams=True
            ),
            "/v1/embeddings": _post(
                "Embeddings of texts", EmbeddingRequest, _ref(CreateEmbeddingResponse)
            ),
            "/v1/reviews": _reviews(),
            "/v1/token_check": check,
            "/api/v1/token_check": check,
            "/v1/feedback": _post("Rate an answer that is kept", FeedbackRequest, None),
            "/v1/forget": _post("Delete all that is kept of a person", ForgetRequest, _DELETED),
        },
        "components": {
            "schemas": {**_schemas(), "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _reviews() -> Schema:
    """Return the path for reviewers."""
    fields: Schema = ReviewsQuery.model_json_schema()["properties"]
    asked = [
        {"name": name, "in": "query", "required": False, "schema": _without_null(field)}
        for name, field in fields.items()
    ]
    item = {"type": "object", "required": list(_COLLECTED), "properties": _COLLECTED}
    answer = _listed(item)
    answer["properties"] |= {
        "waiting": {"type": "integer", "description": "How many nobody has reviewed."},
        "after": {"type": ["string", "null"], "description": "Where the next part begins."},
    }
    found = _get("Collected answers, for reviewers", answer, errors=(400, 404, 503))
    found["get"]["parameters"] = asked
    return found | _post("Decide about one", ReviewRequest, _REVIEW, errors=(409,))


def _without_null(field: Schema) -> Schema:
    """Return the schema of a query field, without null."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if kinds else field


def _schemas() -> Schema:
    _, found = models_json_schema(
        [(kind, "validation") for kind in (*_REQUESTS, *_ANSWERS)],
        ref_template="#/components/schemas/{model}",
    )
    schemas: Schema = found["$defs"]
    for kind in _REQUESTS:
        schemas[kind.__name__] = _with_what_passes(schemas[kind.__name__])
    schemas["Embedding"]["properties"]["embedding"] = {"anyOf": [_NUMBERS, _BASE64]}
    return schemas


def _with_what_passes(schema: Schema) -> Schema:
    """Return the schema of a request, plus the fields and null values that are ignored."""
    required = schema.get("required", [])
    fields = {
        name: field if name in required else {"anyOf": [field, {"type": "null"}]}
        for name, field in schema["properties"].items()
    }
    idle: Schema = {name: {"enum": [*values, None]} for name, values in NEUTRAL.items()}
    labels: Schema = {name: {} for name in sorted(LABELS) if name not in required}
    return {**schema, "properties": {**idle, **fields, **labels}}


def _open(what: str, errors: Collection[int]) -> Schema:
    """Return a path that needs no key."""
    status = {"type": "object", "required": ["status"]}
    found = _get(what, status, errors=errors)
    found["get"]["security"] = []
    return found


def _get(
    what: str,
    answer: Schema | None = None,
    *,
    content: Schema | None = None,
    errors: Collection[int] = (),
) -> Schema:
    shown = content or {"application/json": {"schema": answer}}
    return {"get": {"summary": what, "responses": _responses(shown, errors)}}


def _post(
    what: str,
    kind: type[BaseModel],
    answer: Schema | None,
    *,
    streams: bool = False,
    errors: Collection[int] = (),
) -> Schema:
    content: Schema | None = None if answer is None else {"application/json": {"schema": answer}}
    if streams and content:
        content["text/event-stream"] = {}
    asked = {"required": True, "content": {"application/json": {"schema": _ref(kind)}}}
    responses = _responses(content, {*_ASKED, *errors})
    return {"post": {"summary": what, "requestBody": asked, "responses": responses}}


def _responses(content: Schema | None, errors: Collection[int]) -> Schema:
    """Return the possible responses; without content the success has no body."""
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        **(
            {"204": {"description": "It is kept."}}
            if content is None
            else {"200": {"description": "The answer.", "content": content}}
        ),
        **{
            str(status): {"description": _ERRORS[status], "content": refused}
            for status in sorted({*_ALWAYS, *errors})
        },
    }


def _listed(item: Schema) -> Schema:
    fields = {"object": {"const": "list"}, "data": {"type": "array", "items": item}}
    return {"type": "object", "required": ["object", "data"], "properties": fields}


def _ref(kind: type[BaseModel]) -> Schema:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
