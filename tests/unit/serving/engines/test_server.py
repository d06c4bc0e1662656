"""What a client is told when the model fails: before the first byte, after it, and at the end."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence

import httpx
import pytest

from tasks.core.serving.engines.generator import GeneratorRoom, Token
from tasks.core.serving.engines.places import EnginePlaces
from tasks.core.serving.engines.request import Completion, ModelLimits
from tasks.core.serving.engines.server import EngineService, engine_app
from tasks.core.serving.proof.readiness import EngineReport
from tests.models import tiny_tokenizer
from tests.unit.serving.engines.clients import NAME, request


class Failing:
    """A Generator that gives some tokens, then fails as it is told to."""

    context_tokens = 100
    vocabulary = 300
    end_tokens = frozenset({2})
    room = GeneratorRoom(requests=2, capacity=2)

    def __init__(self, tokens: int, error: Exception | None) -> None:
        self._tokens = tokens
        self._error = error
        self.over: str | None = None

    def check(self, wanted: Completion) -> None:
        return

    def cost(self, wanted: Completion) -> int:
        return 1

    async def generate(self, wanted: Completion) -> AsyncGenerator[Token, None]:
        for _ in range(self._tokens):
            yield Token(70)
        if self._error is not None:
            raise self._error

    async def prompt_logprobs(self, prompt: Sequence[int]) -> list[float]:
        raise FloatingPointError("not a number")

    async def embed(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        raise MemoryError("no room")

    def failure(self) -> str | None:
        return self.over

    def close(self) -> None:
        return


def _no_report() -> EngineReport:
    raise AssertionError("nobody asks for it here")


def served(generator: Failing) -> EngineService:
    limits = ModelLimits(NAME, 100, 300, frozenset({"prompt_logprobs"}))
    places = EnginePlaces(generator.room, waiting=1)
    return EngineService(generator, tiny_tokenizer(), limits, places, report=_no_report)


def answers(
    service: EngineService, body: object, path: str = "/v1/completions"
) -> list[httpx.Response]:
    """Return more answers than the service has places, one after the other."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(engine_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            return [await client.post(path, json=body) for _ in range(5)]

    return asyncio.run(ask())


def test_an_error_before_the_first_byte_is_a_status():
    service = served(Failing(0, TypeError("float(None)")))
    for answer in answers(service, request([5])):
        assert answer.status_code == 500
        assert answer.json()["error"]["message"] == "TypeError: float(None)"
    assert service.places.taken == 0


def test_an_error_after_the_first_byte_is_an_event_and_the_end():
    service = served(Failing(2, RuntimeError("CUDA out of memory")))
    for answer in answers(service, request([5])):
        assert answer.status_code == 200
        *chunks, last = answer.text.removesuffix("\n\n").split("\n\n")
        assert [json.loads(each[6:])["choices"][0]["text"] for each in chunks] == ["d", "d"]
        assert json.loads(last[6:])["error"]["type"] == "server_error"
    assert service.places.taken == 0


def test_an_answer_without_a_reason_to_end_is_an_error():
    (answer, *_) = answers(served(Failing(2, None)), request([5]))
    assert "without a reason" in answer.text
    assert "[DONE]" not in answer.text


def test_a_failing_request_of_any_kind_gives_its_place_back():
    service = served(Failing(0, None))
    asked = [
        ("/v1/completions", request([5], prompt_logprobs=0, max_tokens=1)),
        ("/v1/embeddings", {"model": NAME, "input": [[5]]}),
    ]
    for path, body in asked:
        assert {answer.status_code for answer in answers(service, body, path)} == {500}
    assert service.places.taken == 0


@pytest.mark.parametrize("ending", [True, False])
def test_a_process_that_ends_or_cannot_answer_is_not_healthy(ending):
    service = served(generator := Failing(0, None))
    if ending:
        service.places.close()
    else:
        generator.over = "the thread has died"

    async def ask() -> tuple[int, int]:
        transport = httpx.ASGITransport(engine_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            health = await client.get("/health")
            return health.status_code, (
                await client.post("/v1/completions", json=request([5]))
            ).status_code

    health, answer = asyncio.run(ask())
    assert health == 503
    if ending:
        assert answer == 503
