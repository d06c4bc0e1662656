"""A locustfile: people who ask one question after the other, streamed, and read each answer.

    python -m locust -f tests/benchmarks/load.py --headless -u 8 -t 60s --host http://127.0.0.1:8000

Each answer becomes a line of the file LOAD_RECORD: locust's own statistics round times to two
digits. Tokens are counted with the model's own tokenizer, the same for every server: not all of
them tell. The variables LOAD_MODEL (served name), LOAD_TOKENIZER (directory) and LOAD_TOKENS
(length of an answer) say what is asked; LOAD_KEY is the API key.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from locust import HttpUser, task
from transformers import AutoTokenizer

from tests.benchmarks.load_record import Answer, append

MODEL = os.environ["LOAD_MODEL"]
TOKENS = int(os.environ["LOAD_TOKENS"])
RECORD = Path(os.environ["LOAD_RECORD"])
TOKENIZER = AutoTokenizer.from_pretrained(os.environ["LOAD_TOKENIZER"], trust_remote_code=True)
TOPICS = itertools.cycle(("coffee", "shoes", "bread", "a laundry", "batik", "phones", "fish"))
NUMBERS = itertools.count()


class Person(HttpUser):
    """One client that always has a question."""

    @task
    def ask(self) -> None:
        """Ask, and read the answer to its end."""
        began_s, first_s, text, problem = time.monotonic(), None, "", None
        try:
            for piece in self._pieces():
                first_s = first_s or time.monotonic()
                text += piece
        except Exception as error:  # noqa: BLE001 - whatever a client meets is counted
            problem = f"{type(error).__name__}: {error}"
        ended_s = time.monotonic()
        if problem is None and first_s is None:
            problem = "an empty answer"
        tokens = len(TOKENIZER(text, add_special_tokens=False).input_ids)
        append(RECORD, Answer(began_s, first_s, ended_s, tokens, problem))

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


def _texts(chunk: dict) -> Iterator[str]:
    if "error" in chunk or chunk.get("error_code"):
        raise RuntimeError(str(chunk)[:200])
    for choice in chunk["choices"]:
        if text := choice["delta"].get("content"):
            yield text
