"""A server of vLLM that has proven nothing answers nobody but whoever proves it."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tasks.core.serving.engines.inside_vllm.kawan_usaha_gate import PROVEN_ROUTE, PROVER, ProofGate

PROVES = {"Authorization": f"Bearer {PROVER}"}


@pytest.fixture
def server() -> Iterator[TestClient]:
    route = Route("/v1/completions", lambda _: PlainTextResponse("an answer"), methods=["POST"])
    with TestClient(Starlette(routes=[route], middleware=[Middleware(ProofGate)])) as client:
        yield client


@pytest.mark.parametrize("path", ["/v1/completions", "/health", PROVEN_ROUTE])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer another"}])
def test_nobody_gets_an_answer_before_the_proof(server, path, headers):
    for _ in range(2):
        answer = server.post(path, headers=headers)
        assert answer.status_code == 425
        assert "has not proven" in answer.json()["error"]["message"]


def test_whoever_proves_gets_one_and_lets_nobody_in_by_asking(server):
    assert server.post("/v1/completions", headers=PROVES).text == "an answer"
    assert server.post("/v1/completions").status_code == 425


def test_once_it_has_proven_everybody_gets_one(server):
    for _ in range(2):  # the watch proves it again
        assert server.post(PROVEN_ROUTE, headers=PROVES).status_code == 200
        assert server.post("/v1/completions").text == "an answer"
