"""Light load on a deployment: one request about every two seconds, of each kind in turn.

Most are whole, streamed or not; some clients leave in the middle of an answer, some ask what is
refused, and some sit at the page in a browser, each a new visitor. What a kind must come to is
known, so that a soak in which nothing is answered is no flat one.
"""

import itertools
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

PAUSE_S = 2.0
_WITHIN_S = 300.0
_WORDS = ("modal", "laba", "izin", "pajak", "stok", "harga")


class Unexpected(Exception):
    """An answer that is not what its kind must come to."""


class Visitors:
    """Ask during a block; `counts` says how often each kind went well, `amiss` what did not."""

    def __init__(self, url: str, model: str, page: str) -> None:
        self.counts: Counter[str] = Counter()
        self.amiss: list[str] = []
        self._url, self._model, self._page = f"{url}/v1/chat/completions", model, page
        self._asking: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _ask_on(self) -> None:
        kinds: tuple[Callable[[httpx.Client], None], ...] = (
            *(self.whole, self.streamed, self.at_the_page, self.left),
            *(self.whole, self.streamed, self.at_the_page, self.unknown_model),
            *(self.whole, self.streamed, self.at_the_page, self.no_json),
        )
        with httpx.Client(trust_env=False, timeout=_WITHIN_S) as client:
            for kind in itertools.cycle(kinds):
                if self._stop.wait(PAUSE_S):
                    return
                name = kind.__name__
                try:
                    kind(client)
                    self.counts[name] += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, it is amiss
                    self.amiss.append(f"{name}: {error!r}")

    def whole(self, client: httpx.Client) -> None:
        """Ask for an answer in one piece."""
        answer = client.post(self._url, json=self._body())
        _require(answer.status_code == 200, answer)
        _require(answer.json()["choices"][0]["finish_reason"] in ("stop", "length"), answer)

    def streamed(self, client: httpx.Client) -> None:
        """Ask for an answer in pieces, and take all of them."""
        with client.stream("POST", self._url, json=self._body(stream=True)) as answer:
            lines = [line for line in answer.iter_lines() if line]
        _require(answer.status_code == 200 and lines[-1] == "data: [DONE]", str(lines[-1:]))

    def left(self, _: httpx.Client) -> None:
        """Leave at the first piece of an answer, with the connection."""
        body = self._body(stream=True, max_tokens=400)
        with _visitor() as client, client.stream("POST", self._url, json=body) as answer:
            _require(answer.status_code == 200, str(answer))
            next(answer.iter_bytes())

    def unknown_model(self, client: httpx.Client) -> None:
        """Ask for a model that is not served."""
        answer = client.post(self._url, json=self._body(model="another"))
        _require(answer.status_code == 404 and "error" in answer.json(), answer)

    def no_json(self, client: httpx.Client) -> None:
        """Send what cannot be read."""
        answer = client.post(self._url, content=b'{"model": ')
        _require(answer.status_code == 400 and "error" in answer.json(), answer)

    def at_the_page(self, _: httpx.Client) -> None:
        """Be a new visitor of the page, ask there as a browser does, and leave."""
        session = uuid.uuid4().hex
        with _visitor() as client:
            asking = self._event_of_asking(client)
            api, params = f"{self._page}/gradio_api", {"session_hash": session}
            with client.stream("GET", f"{api}/heartbeat/{session}"):
                data = ["apa kabar usaha?", [], None, 0, 32]
                body = {"data": data, "fn_index": asking, **params}
                _require(client.post(f"{api}/queue/join", json=body).status_code == 200, "queue")
                with client.stream("GET", f"{api}/queue/data", params=params) as events:
                    _require(_ended_well(events), "an answer at the page")

    def _event_of_asking(self, client: httpx.Client) -> int:
        """Return the number of the event that sends a question, the only one of five inputs."""
        if self._asking is None:
            config = client.get(f"{self._page}/config").json()
            events = [each["id"] for each in config["dependencies"] if len(each["inputs"]) == 5]
            self._asking = int(events[0])
        return self._asking

    def _body(self, **changes: object) -> dict[str, object]:
        topic = _WORDS[sum(self.counts.values()) % len(_WORDS)]
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": f"apa kabar {topic}?"}],
            "max_tokens": 16,
            **changes,
        }


@contextmanager
def _visitor() -> Any:
    with httpx.Client(trust_env=False, timeout=_WITHIN_S) as client:
        yield client


def _ended_well(events: httpx.Response) -> bool:
    for line in events.iter_lines():
        event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
        if event.get("msg") == "process_completed":
            return bool(event["success"])
    return False


def _require(is_right: bool, found: httpx.Response | str) -> None:
    if not is_right:
        raise Unexpected(
            found if isinstance(found, str) else f"{found.status_code} {found.text[:200]}"
        )
