"""The page as a browser speaks to it: what is typed and pressed, without a browser.

A browser reads the page's configuration, sends each event with what stands in its fields, and reads
what comes of it from a stream. What the page has it store is stored here.
"""

import json
import secrets
from typing import Any

import httpx

from tasks.core.serving.page import words

_LONG_S = 600


class Visitor:
    """One person at one open page. `mine` is what the page has stored in the browser."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=_LONG_S)
        self._config = self._http.get("/config").raise_for_status().json()
        self._session = secrets.token_hex(8)
        self.mine: dict[str, Any] = {"id": "", "agrees": False}

    def agree(self) -> None:
        """Tick the box."""
        self.mine, *_ = self._happens("agrees", "input", True, self.mine)

    def ask(self, question: str, *, tokens: int = 32) -> None:
        """Ask in a new conversation, and read the answer to its end; the box stays as it is."""
        agrees = self.mine["agrees"]
        self._happens("question", "submit", question, [], None, self.mine, agrees, 0.0, tokens)

    def dislike(self) -> str:
        """Press the thumb that points down, and return what the page says."""
        return self._told(self._happens("bad", "click", None, self.mine))

    def correct(self, answer: str) -> str:
        """Send what would have been a better answer, and return what the page says."""
        sent = self._happens(words.SEND_CORRECTION, "click", None, self.mine, None, answer)
        return self._told(sent)

    def review(self, key: str) -> list[Any]:
        """Open the team's tab with a key, and return what it shows."""
        return self._happens(words.REVIEW_OPEN, "click", key)

    def _happens(self, place: str, event: str, *values: object) -> list[Any]:
        """Return what the page makes of an event. What it keeps for itself is sent as None."""
        (component,) = (
            each["id"]
            for each in self._config["components"]
            if place in (each["props"].get("elem_id"), each["props"].get("value"))
        )
        (found,) = (
            each for each in self._config["dependencies"] if [component, event] in each["targets"]
        )
        assert len(values) == len(found["inputs"]), found["inputs"]
        sent = {
            "data": list(values),
            "fn_index": found["id"],
            "trigger_id": component,
            "session_hash": self._session,
        }
        self._http.post("/gradio_api/queue/join", json=sent).raise_for_status()
        asked = {"session_hash": self._session}
        with self._http.stream("GET", "/gradio_api/queue/data", params=asked) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {}
                if message.get("msg") == "process_completed":
                    assert message["success"], message
                    return list(message["output"]["data"])
        raise AssertionError(f"{place} was not answered")

    @staticmethod
    def _told(shown: list[Any]) -> str:
        return str(shown[-1]["value"])
