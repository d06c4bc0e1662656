"""Health checks of a running deployment, each with a time limit.

An open port proves nothing, because an engine that hangs still accepts connections. A generated
token does. Every function raises ServingFailed when the answer does not come in time or is not what
it should be.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import JsonValue, ValidationError

from tasks.core.errors import ServingFailed
from tasks.core.serving.client.request import QUICK_S, bad_answer, request_text
from tasks.core.serving.engines.base import Engine
from tasks.core.serving.gateway.control import GatewayBusy, GatewayControl
from tasks.core.serving.proof.readiness import REPORT_ROUTE, EngineReport
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.record import Deployment

GENERATE_S = 120.0
_TOKENS = 4
_PROMPT_IDS: list[JsonValue] = [1, 2, 3]
"""Any ids will do for a health check; every vocabulary has these."""


def require_healthy(
    state: StateDirectory, deployment: Deployment, *, generate_s: float = GENERATE_S
) -> None:
    """Return once the whole chain has answered with a token.

    Checked from cheapest to most expensive: the public address answers, the gateway routes to this
    build, a token is generated. The request goes through the gateway's control socket, which needs
    no key. A gateway that is too busy for another request is healthy.
    """
    request_text("GET", f"{deployment.url}/health")
    gateway = GatewayControl(state.gateway_socket)
    route = gateway.state().route
    if route is None or route.build != deployment.build:
        found = f"build {route.build}" if route else "no route"
        raise bad_answer("The gateway does not route to this build.", deployment.url, found)
    with suppress(GatewayBusy):
        gateway.generate_token(route.model_name, timeout_s=generate_s)


def require_page(url: str, *, timeout_s: float = QUICK_S) -> None:
    """Return once the page at url answers."""
    request_text("GET", f"{url}/health", timeout_s=timeout_s)


def engine_report(deployment: Deployment) -> EngineReport | None:
    """Return the engine's report on the model in its memory; None if it has none."""
    try:
        text = request_text("GET", deployment.engine_url + REPORT_ROUTE)
        return EngineReport.model_validate_json(text)
    except (ServingFailed, ValidationError):
        return None


def require_token(deployment: Deployment, *, timeout_s: float) -> None:
    """Return once the engine itself has generated a token."""
    _generate(deployment, 1, timeout_s=timeout_s)


def require_finite(deployment: Deployment, engine: Engine, *, timeout_s: float) -> None:
    """Return once the engine has generated a few tokens with finite log-probabilities."""
    logprobs = {"logprobs": 1} if "logprobs" in engine.takes else {}
    for chunk in _generate(deployment, _TOKENS, timeout_s=timeout_s, **logprobs):
        for choice in chunk["choices"]:
            found = (choice.get("logprobs") or {}).get("token_logprobs") or []
            if not all(value is not None and math.isfinite(value) for value in found):
                raise bad_answer(
                    "The model's outputs are not finite.",
                    deployment.engine_url,
                    f"logprobs {found}",
                )


def answer_of(deployment: Deployment, request: Mapping[str, JsonValue], *, timeout_s: float) -> str:
    """Return the engine's complete answer to a request of the engine protocol."""
    chunks = _chunks(deployment, request, timeout_s=timeout_s)
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


def _generate(
    deployment: Deployment, tokens: int, *, timeout_s: float, **more: JsonValue
) -> list[dict[str, Any]]:
    """Return the chunks of a greedy answer."""
    request: dict[str, JsonValue] = {
        "model": deployment.settings.model_name,
        "prompt": _PROMPT_IDS,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }
    return _chunks(deployment, request, timeout_s=timeout_s)


def _chunks(
    deployment: Deployment, request: Mapping[str, JsonValue], *, timeout_s: float
) -> list[dict[str, Any]]:
    url = f"{deployment.engine_url}/v1/completions"
    answer = request_text("POST", url, request, timeout_s=timeout_s)
    lines = [line.removeprefix("data: ") for line in answer.splitlines() if line]
    if not lines or lines[-1] != "[DONE]":
        raise bad_answer("The engine's answer is incomplete.", url, answer[-500:])
    return [json.loads(line) for line in lines[:-1]]
