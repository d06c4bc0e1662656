"""Each remedy of the launcher, and the fault of the untouched library that it is there for.

The tests named "…_still_…" fail once a library no longer has the fault: then the remedy goes.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastchat.protocol import openai_api_protocol as protocol
from fastchat.serve import base_model_worker
from fastchat.utils import get_context_length
from transformers import LlamaConfig

from tasks.core.serving import launcher
from tests.models import tiny_tokenizer


def test_fastchat_still_cannot_find_the_context_length_of_a_llama():
    with pytest.raises(KeyError, match="factor"):
        get_context_length(LlamaConfig())


@pytest.mark.parametrize(
    ("rope", "length"),
    [
        (None, 2048),
        ({"rope_type": "linear", "factor": 2.0}, 4096),
        ({"rope_type": "dynamic", "factor": 4.0}, 8192),
        ({"rope_type": "yarn", "factor": 4.0}, 8192),
    ],
)
def test_the_context_is_the_trained_length_times_the_rope_factor(rope, length):
    config = LlamaConfig(max_position_embeddings=2048, rope_parameters=rope)
    assert launcher.context_length(config) == length


def test_a_configuration_that_names_the_stretched_length_is_not_stretched_twice():
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    config = LlamaConfig(max_position_embeddings=8192, rope_parameters=rope)
    assert launcher.context_length(config) == 8192


def _chunk(model: str = "é") -> protocol.ChatCompletionStreamResponse:
    choice = protocol.ChatCompletionResponseStreamChoice(
        index=0, delta=protocol.DeltaMessage(role="assistant")
    )
    return protocol.ChatCompletionStreamResponse(model=model, choices=[choice])


def test_pydantic_still_refuses_the_call_by_which_fastchat_streams():
    with (
        pytest.warns(DeprecationWarning, match="`json` method"),
        pytest.raises(TypeError, match="dumps_kwargs"),
    ):
        _chunk().json(exclude_unset=True, ensure_ascii=False)


def test_a_streamed_chunk_has_the_fields_that_were_set_in_plain_letters():
    text = launcher.stream_json(_chunk(), exclude_unset=True, ensure_ascii=False)
    assert "é" in text
    assert json.loads(text)["choices"] == [{"index": 0, "delta": {"role": "assistant"}}]


def test_transformers_still_lacks_the_method_by_which_fastchat_embeds():
    assert not hasattr(tiny_tokenizer(), "batch_encode_plus")


class _Worker(base_model_worker.BaseModelWorker):
    """FastChat's worker with a model that fails in a way that FastChat does not foresee."""

    def __init__(self) -> None:
        self.semaphore = None
        self.limit_worker_concurrency = 5

    def generate_stream_gate(self, params: dict[str, Any]) -> Iterator[bytes]:
        yield json.dumps({"text": float(params["temperature"]), "error_code": 0}).encode() + b"\0"

    def generate_gate(self, params: dict[str, Any]) -> dict[str, Any]:
        answer = list(self.generate_stream_gate(params))[-1]
        return json.loads(answer[:-1])

    def get_embeddings(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"embedding": [float(params["input"])]}


def _places_taken_after(
    worker: _Worker, path: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Return how many places of a worker are taken after a request that fails, and the answer."""
    monkeypatch.setattr(base_model_worker, "worker", worker)
    transport = httpx.ASGITransport(base_model_worker.app, raise_app_exceptions=False)

    async def ask() -> str:
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
            return (await client.post(path, json={"temperature": None, "input": None})).text

    answer = asyncio.run(ask())
    return worker.get_queue_length(), answer


FAILING = ("/worker_generate", "/worker_get_embeddings")


@pytest.mark.parametrize("path", FAILING)
def test_a_failing_request_still_costs_a_worker_one_of_its_places(path, monkeypatch):
    taken, _ = _places_taken_after(_Worker(), path, monkeypatch)
    assert taken == 1


@pytest.mark.parametrize("path", [*FAILING, "/worker_generate_stream"])
def test_a_contained_failure_gives_its_place_back_and_is_told(path, monkeypatch):
    worker = _Worker()
    launcher.contain_errors(worker)
    taken, answer = _places_taken_after(worker, path, monkeypatch)
    assert taken == 0
    assert json.loads(answer.rstrip("\0"))["error_code"] == 50001


def test_an_unknown_role_is_a_usage_error():
    command = [sys.executable, "-m", "tasks.core.serving.launcher", "manager"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "controller|worker|api" in result.stderr
