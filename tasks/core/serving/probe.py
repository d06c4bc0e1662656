"""Questions to a running deployment, each with a time limit.

An open port proves nothing: a FastChat worker whose places have leaked still accepts connections.
The proof is a generated token. Every function raises ServingFailed when the answer is not there in
time or not what it should be.
"""

from typing import TypeVar

import httpx
from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from tasks.core.errors import ServingFailed
from tasks.core.serving.report import REPORT_ROUTE, WorkerReport
from tasks.core.serving.state import Deployment

GENERATE_S = 120.0
_QUICK_S = 60.0  # a busy machine answers late; a dead process refuses at once

Answer = TypeVar("Answer")


class _Named(BaseModel):
    name: str


class _Conversation(BaseModel):
    conv: _Named


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class _Completion(BaseModel):
    choices: list[JsonValue] = Field(min_length=1)


def require_healthy(deployment: Deployment, *, generate_s: float = GENERATE_S) -> WorkerReport:
    """Return the worker's report once the whole chain has answered with a token.

    The order is from the cheap to the dear: the worker is the one that was deployed, with its
    template; the API server offers the model; a token comes out.
    """
    report = worker_report(deployment.endpoints.worker)
    _require_same("build", deployment.build, report.build)
    template = conversation_template(deployment.endpoints.worker, deployment.settings.model_name)
    _require_same("conversation template", deployment.template, template)
    require_offered(deployment)
    generate_token(deployment, timeout_s=generate_s)
    return report


def require_controller(url: str) -> None:
    """Return when the controller at url answers."""
    _ask(str, "GET", f"{url}/test_connection")


def worker_report(url: str) -> WorkerReport:
    """Return what the worker at url says of itself; it answers only after its proof."""
    return _ask(WorkerReport, "GET", url + REPORT_ROUTE)


def conversation_template(url: str, model_name: str) -> str:
    """Return the template that the worker at url talks with, asked by FastChat's own route."""
    route = f"{url}/worker_get_conv_template"
    return _ask(_Conversation, "POST", route, {"model": model_name}).conv.name


def require_offered(deployment: Deployment) -> None:
    """Return when /v1/models offers the model."""
    url = f"{deployment.base_url}/models"
    offered = [model.id for model in _ask(_Models, "GET", url).data]
    if deployment.settings.model_name not in offered:
        raise _wrong("The API server does not offer the model.", url, f"models: {offered}")


def generate_token(deployment: Deployment, *, timeout_s: float = GENERATE_S) -> None:
    """Return when one token has come through the API server from the worker."""
    request: dict[str, JsonValue] = {
        "model": deployment.settings.model_name,
        "messages": [{"role": "user", "content": "Halo"}],
        "max_tokens": 1,  # without it FastChat generates to the end of the context
        "temperature": 0,
    }
    url = f"{deployment.base_url}/chat/completions"
    _ask(_Completion, "POST", url, request, timeout_s=timeout_s)


def _ask(
    kind: type[Answer],
    method: str,
    url: str,
    body: dict[str, JsonValue] | None = None,
    *,
    timeout_s: float = _QUICK_S,
) -> Answer:
    try:
        # trust_env: a proxy of the environment must not get requests to this machine itself.
        with httpx.Client(trust_env=False, timeout=timeout_s) as client:
            response = client.request(method, url, json=body)
    except httpx.TimeoutException as error:
        raise _wrong("No answer in time.", url, f"nothing within {timeout_s:.0f} s") from error
    except httpx.HTTPError as error:
        raise _wrong("No connection.", url, error) from error
    if response.status_code != httpx.codes.OK:
        found = f"{response.status_code} {response.text[:500]}"
        raise _wrong("The answer is an error.", url, found)
    try:
        return TypeAdapter(kind).validate_json(response.content)
    except ValidationError as error:
        raise _wrong("Another server answers there.", url, response.text[:200]) from error


def _require_same(what: str, expected: str, found: str) -> None:
    if expected != found:
        raise ServingFailed(
            f"The worker serves another {what}.",
            expected=expected,
            found=found,
            next_step="Deploy again.",
        )


def _wrong(what: str, where: str, found: object) -> ServingFailed:
    return ServingFailed(
        what, where=where, found=found, next_step="`kawan-usaha status` and the logs tell more."
    )
