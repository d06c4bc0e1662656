"""Controlling a running gateway through its control socket."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from tasks.core.errors import ServingFailed
from tasks.core.process.answer_file import error_in
from tasks.core.serving.gateway.control_protocol import GatewayState, ReportedIncident
from tasks.core.serving.gateway.recent import RecentAnswer

_QUICK_S = 15.0
_LOAD_S = 120.0  # a tokenizer is loaded before a new route is used

Answer = TypeVar("Answer")


class _Completion(BaseModel):
    choices: list[JsonValue] = Field(min_length=1)


class GatewayBusy(ServingFailed):
    """The gateway works, but cannot accept another request."""

    retryable = True


class GatewayControl:
    """The gateway behind a control socket. Every method raises ServingFailed if none answers."""

    def __init__(self, control_socket: Path) -> None:
        self._socket = control_socket

    def follow_routes(self, *, timeout_s: float = _LOAD_S) -> GatewayState:
        """Return once the gateway uses the current routes.json.

        Raises the KawanUsahaError that it encountered; the earlier route is then still in use.
        """
        return self._ask(GatewayState, "POST", "/routes", timeout_s=timeout_s)

    def read_keys(self) -> int:
        """Have the keys read again; return their number. Raises UsageError for an invalid file."""
        return self._ask(int, "POST", "/keys")

    def state(self) -> GatewayState:
        """Return the state of the gateway."""
        return self._ask(GatewayState, "GET", "/state")

    def recent(self) -> list[RecentAnswer]:
        """Return the last answers, the oldest first."""
        return self._ask(list[RecentAnswer], "GET", "/recent")

    def metrics(self) -> str:
        """Return the counters, in Prometheus's format."""
        return self._text("GET", "/metrics")

    def incident(self, kind: str, detail: str) -> None:
        """Have an incident counted and logged."""
        body = ReportedIncident(kind=kind, detail=detail[:2000]).model_dump_json()
        self._ask(type(None), "POST", "/incidents", body)

    def generate_token(self, model_name: str, *, timeout_s: float) -> None:
        """Return once a token of the model came through the gateway; needs no key.

        Raises GatewayBusy when all places and the queue are full, so the gateway works.
        """
        request = {
            "model": model_name,
            "messages": [{"role": "user", "content": "Halo"}],
            "max_tokens": 1,
            "temperature": 0,
        }
        path = "/v1/chat/completions"
        self._ask(_Completion, "POST", path, json.dumps(request), timeout_s=timeout_s)

    def _ask(
        self,
        kind: type[Answer],
        method: str,
        path: str,
        body: str | None = None,
        *,
        timeout_s: float = _QUICK_S,
    ) -> Answer:
        text = self._text(method, path, body, timeout_s=timeout_s)
        try:
            return TypeAdapter(kind).validate_json(text or "null")
        except ValidationError as error:
            raise self._wrong(text[:500]) from error

    def _text(
        self, method: str, path: str, body: str | None = None, *, timeout_s: float = _QUICK_S
    ) -> str:
        import httpx  # slow to import; see `client.request`

        transport = httpx.HTTPTransport(uds=str(self._socket), verify=False)
        headers = {"Content-Type": "application/json"}
        try:
            with httpx.Client(transport=transport, timeout=timeout_s) as client:
                url = f"http://gateway{path}"
                response = client.request(method, url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise self._wrong(str(error) or type(error).__name__) from error
        if response.status_code == httpx.codes.CONFLICT:
            told = error_in(f'{{"error": {response.text}}}')
            raise told or self._wrong(f"{response.status_code} {response.text[:500]}")
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise GatewayBusy(
                "The gateway cannot accept another request.",
                where=self._socket,
                found=response.text[:500],
                next_step="Ask again later.",
            )
        if not response.is_success:
            raise self._wrong(f"{response.status_code} {response.text[:500]}")
        return response.text

    def _wrong(self, found: str) -> ServingFailed:
        return ServingFailed(
            "The gateway does not answer.",
            where=self._socket,
            found=found,
            next_step="`kawan-usaha status` tells what still runs.",
        )
