"""Clients that ask a deployment all the time, streamed and not, and what became of each request."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import httpx

Fate = Literal["whole", "come back", "refused", "cut off", "hung", "broken"]
"""whole: an answer to its end. come back: 429 or 503 with Retry-After. refused: no connection, the
gateway itself was gone. cut off: an answer that says it failed, or ended early. hung: nothing for
HANG_S. broken: whatever else, which must never be."""

HANG_S = 120.0
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Outcome:
    """One request. text is the answer, or what was said instead."""

    fate: Fate
    streamed: bool
    text: str
    at: float


class Asking:
    """So many clients during a block; every other one streams."""

    def __init__(self, url: str, model: str, clients: int = 8, tokens: int = 24) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._model = model
        self._tokens = tokens
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_on, args=(number % 2 == 0,))
            for number in range(clients)
        ]
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, fate: Fate | None = None) -> None:
        """Return once so many requests have ended, or ended so. Raises TimeoutError."""
        give_up = time.monotonic() + 1200
        while sum(fate in (None, each.fate) for each in list(self.outcomes)) < count:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{count} times {fate}: {self.fates()}")
            time.sleep(0.05)

    def fates(self) -> Counter[Fate]:
        """Return how many requests ended how."""
        return Counter(outcome.fate for outcome in list(self.outcomes))

    def failed(self) -> list[Outcome]:
        """Return the requests that got no whole answer."""
        return [outcome for outcome in list(self.outcomes) if outcome.fate != "whole"]

    def texts(self) -> set[str]:
        """Return the different whole answers."""
        return {outcome.text for outcome in self.outcomes if outcome.fate == "whole"}

    def _ask_on(self, streamed: bool) -> None:
        with httpx.Client(trust_env=False, timeout=HANG_S) as client:
            while not self._stop.is_set():
                outcome = self._outcome(client, streamed)
                self.outcomes.append(outcome)
                if outcome.fate != "whole":
                    time.sleep(_PAUSE_S)

    def _outcome(self, client: httpx.Client, streamed: bool) -> Outcome:
        try:
            fate, text = self._ask(client, streamed)
        except httpx.ConnectError as error:
            fate, text = "refused", str(error)
        except httpx.TimeoutException as error:
            fate, text = "hung", str(error)
        except httpx.HTTPError as error:
            fate, text = "cut off", repr(error)
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            fate, text = "broken", repr(error)
        return Outcome(fate, streamed, text, time.time())

    def _ask(self, client: httpx.Client, streamed: bool) -> tuple[Fate, str]:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": "apa kabar usaha?"}],
            "max_tokens": self._tokens,
            "temperature": 0,
            "stream": streamed,
        }
        with client.stream("POST", self._url, json=body) as response:
            if response.status_code in (429, 503) and "retry-after" in response.headers:
                return "come back", response.read().decode()
            if response.status_code != 200:
                return _not_answered(response)
            if not streamed:
                (choice,) = json.loads(response.read())["choices"]
                return "whole", choice["message"]["content"]
            return _streamed(response)


def _not_answered(response: httpx.Response) -> tuple[Fate, str]:
    """Return what an error is: one in OpenAI's shape is clean, anything else is broken."""
    text = response.read().decode()
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError):
        return "broken", f"{response.status_code} {text[:300]}"
    return "cut off", f"{response.status_code} {error}"


def _streamed(response: httpx.Response) -> tuple[Fate, str]:
    text, finish = "", None
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            return ("whole", text) if finish else ("broken", f"no finish_reason: {text}")
        if not data:
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            return "cut off", str(chunk["error"])
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            finish = finish or choice["finish_reason"]
    return "cut off", f"no [DONE]: {text}"
