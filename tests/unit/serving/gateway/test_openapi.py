"""The gateway's own description of its API is true: Schemathesis asks what it says, and otherwise.

A few cases an operation with every `make test`; `make fuzz` asks a thousand.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from tasks.core.serving.gateway.middleware import PATHS
from tests.collected import Kept
from tests.fuzz.mutations import EXAMPLES
from tests.unit.serving.gateway.world import MODEL_NAME, Engine, Gateway, a_route

FEW = 10
KEY = "rahasia-warung-satu"
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
)
"""Not: whether all that fits the schema is answered, for a schema knows neither a model's context
nor its tokens; and whether all else is refused, for null and a number as text pass, as in FastChat.
"""


@pytest.fixture(scope="module")
def locked_gateway(
    tmp_path_factory: pytest.TempPathFactory, model: Path, shared_engine: Engine
) -> Iterator[Gateway]:
    """A gateway that asks for a key, with short answers, and a few that were collected."""
    directory = tmp_path_factory.mktemp("gateway")
    kept, keys = Kept(directory / "collected"), directory / "keys"
    kept.answer("chatcmpl-1", "Bisa?", "Ya.", rated="down", correction="Tentu.")
    kept.answer("chatcmpl-2", "Bisa?", "Tidak.")
    kept.review("chatcmpl-2")
    keys.write_text(json.dumps([{"name": "warung", "key": KEY, "reviewer": True}]))
    keys.chmod(0o600)
    gateway = Gateway(
        directory,
        a_route(model, [shared_engine.url]),
        gateway={"default_answer_tokens": 2, "max_answer_tokens": 3, "keys_file": str(keys)},
        collected=str(kept.directory),
    )
    yield gateway
    gateway.end()


@pytest.fixture(scope="module")
def described(locked_gateway: Gateway) -> dict[str, Any]:
    """The document that the gateway gives."""
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.get(f"{locked_gateway.url}/openapi.json", headers=headers)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def api(locked_gateway: Gateway, described: dict[str, Any]) -> Any:
    """The document, with the one name by which a model is asked for: others all get a 404."""
    schemas = described["components"]["schemas"]
    for name in ("ChatRequest", "CompletionRequest", "EmbeddingRequest"):
        schemas[name]["properties"]["model"] = {"enum": [MODEL_NAME]}
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=locked_gateway.url)
    return schema


ASKED = ("completions", "embeddings", "token_check", "feedback", "forget")
POSTS = [path for path in PATHS if path.endswith(ASKED)]
OPERATIONS = [
    ("/v1/models/{model}", "GET"),
    ("/v1/reviews", "POST"),
    *((path, "POST" if path in POSTS else "GET") for path in PATHS),
]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_whatever_is_asked_is_answered_as_described(api: Any, path: str, method: str) -> None:
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    cases = st.one_of([api[path][method].as_strategy(generation_mode=mode) for mode in modes])

    @settings(
        max_examples=EXAMPLES or FEW,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def answered(case: schemathesis.Case) -> None:
        case.call_and_validate(
            headers={"Authorization": f"Bearer {KEY}"},
            checks=list(CHECKS.get_by_names(CHECKED)),
            timeout=300,
        )

    answered()


def test_every_path_is_described(described: dict[str, Any]) -> None:
    assert set(PATHS) | {"/v1/models/{model}"} == set(described["paths"])


def test_the_description_needs_a_key_where_all_else_does(locked_gateway: Gateway) -> None:
    assert httpx.get(f"{locked_gateway.url}/openapi.json").status_code == 401


def test_a_method_that_is_not_there_is_answered_with_those_that_are(gateway: Gateway) -> None:
    answer = httpx.delete(f"{gateway.url}/v1/models")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
