"""A locustfile: people who ask one question after the other, streamed, and read each answer.

    python -m locust -f tests/benchmarks/load.py --headless -u 8 -t 60s --host http://127.0.0.1:8000

Each answer is two entries of locust's statistics: `first token` (from the request on) and `answer`,
whose length is its number of tokens. Tokens are counted with the model's own tokenizer, the same
for every server: not all of them tell. The variables LOAD_MODEL (served name), LOAD_TOKENIZER
(directory) and LOAD_TOKENS (length of an answer) say what is asked; LOAD_KEY is the API key.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator

from locust import HttpUser, events, task
from transformers import AutoTokenizer

MODEL = os.environ["LOAD_MODEL"]
TOKENS = int(os.environ["LOAD_TOKENS"])
TOKENIZER = AutoTokenizer.from_pretrained(os.environ["LOAD_TOKENIZER"], trust_remote_code=True)
TOPICS = itertools.cycle(("coffee", "shoes", "bread", "a laundry", "batik", "phones", "fish"))
NUMBERS = itertools.count()


class Person(HttpUser):
    """One client that always has a question."""

    @task
    def ask(self) -> None:
        """Ask, and read the answer to its end."""
        began = time.perf_counter()
        first_s, text, problem = None, "", None
        try:
            for piece in self._pieces():
                first_s = first_s or time.perf_counter() - began
                text += piece
        except Exception as error:  # noqa: BLE001 - whatever a client meets is counted
            problem = error
        tokens = len(TOKENIZER(text, add_special_tokens=False).input_ids)
        if problem is None and first_s is None:
            problem = RuntimeError("an empty answer")
        if first_s is not None:
            self._note("first token", first_s, 0, None)
        self._note("answer", time.perf_counter() - began, tokens, problem)

    def _pieces(self) -> Iterator[str]:
        request = {
            "model": MODEL,
            "messages": [
                {
                    "role": "user",
                    "content": f"Tell a long story about a small shop for {next(TOPICS)}, "
                    f"number {next(NUMBERS)}.",
                }
            ],
            "max_tokens": TOKENS,
            "temperature": 1.0,
            "stream": True,
        }
        key = os.environ.get("LOAD_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with self.client.post(
            "/v1/chat/completions",
            json=request,
            headers=headers,
            stream=True,
            catch_response=True,
            name="http",
        ) as response:
            if response.status_code != 200:
                response.failure(str(response.status_code))
                raise RuntimeError(f"{response.status_code} {response.text[:200]}")
            ended = False
            for line in response.iter_lines():
                data = line.removeprefix(b"data: ")
                if data == b"[DONE]":
                    ended = True
                elif data:
                    yield from _texts(json.loads(data))
            if not ended:
                raise RuntimeError("the stream broke off")

    def _note(self, name: str, seconds: float, tokens: int, problem: Exception | None) -> None:
        events.request.fire(
            request_type="SSE",
            name=name,
            response_time=seconds * 1000,
            response_length=tokens,
            exception=problem,
            context={},
        )


def _texts(chunk: dict) -> Iterator[str]:
    if "error" in chunk or chunk.get("error_code"):
        raise RuntimeError(str(chunk)[:200])
    for choice in chunk["choices"]:
        if text := choice["delta"].get("content"):
            yield text
