"""FastChat's generate_stream over token ids, with a thread for each of a few answers.

FastChat maps text to text; here it gets a tokenizer that passes ids through, and a model that
exposes its last scores. FastChat itself is not changed. It does not batch: concurrent answers only
use what one of them leaves idle.

The invariants: a step of an answer and its end never overlap; an answer with a seed runs alone,
because torch has one random number generator.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

import torch
from fastchat.serve.inference import generate_stream
from torch import Tensor

from tasks.core.recipe.deploy import FASTCHAT_AT_ONCE
from tasks.core.serving.engines.forward import embeddings, prompt_logprobs
from tasks.core.serving.engines.generator import GeneratorRoom, Token
from tasks.core.serving.engines.loaded import (
    context_of,
    end_tokens_of,
    rope_by_length,
    vocabulary_of,
)
from tasks.core.serving.engines.request import Completion, RequestRefused
from tasks.core.serving.engines.scores import as_token

T = TypeVar("T")


class FastChatGenerator:
    """A Generator (see generator.py) for a few concurrent requests; the others wait."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        at_once = 1 if rope_by_length(model) else FASTCHAT_AT_ONCE
        self.room = GeneratorRoom(requests=at_once, capacity=at_once)
        self._model = model
        self.context_tokens = context_of(model)
        self.vocabulary = vocabulary_of(model)
        self.end_tokens = end_tokens_of(model, tokenizer)
        self._eos = tokenizer.eos_token_id
        self._threads = ThreadPoolExecutor(at_once, "fastchat")

    def check(self, wanted: Completion) -> None:
        """Raise RequestRefused for values that FastChat would silently ignore."""
        if wanted.repetition_penalty < 1:
            raise RequestRefused(
                400, "repetition_penalty: FastChat supports values from 1 only", "invalid_value"
            )

    def cost(self, wanted: Completion) -> int:
        """Return 1, or the whole capacity for an answer that must not share random numbers."""
        return 1 if wanted.seed is None else self.room.capacity

    async def generate(self, wanted: Completion) -> AsyncGenerator[Token, None]:
        """Yield the tokens of an answer, as FastChat chooses them."""
        steps, stepping = self._steps(wanted), Lock()

        def step() -> Token | None:
            with stepping:
                return next(steps, None)

        def end() -> None:
            with stepping:  # after the step that runs
                steps.close()

        try:
            while (token := await self._run(step)) is not None:
                yield token
        finally:
            await self._run(end)

    async def prompt_logprobs(self, prompt: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first."""
        return await self._run(lambda: prompt_logprobs(self._model, prompt))

    async def embed(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return for each text the mean of its last hidden states, of length 1."""
        batches = embeddings(self._model, texts)
        found: list[list[float]] = []
        while (one := await self._run(lambda: next(batches, None))) is not None:
            found.append(one)
        return found

    def failure(self) -> str | None:
        """Return None, because an error ends only one answer."""
        return None

    def close(self) -> None:
        """Let each thread end after its current step."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _steps(self, wanted: Completion) -> Generator[Token, None, None]:
        if wanted.seed is not None:
            torch.manual_seed(wanted.seed)
        model, ids = _Watched(self._model), _Ids(list(wanted.prompt), self._eos)
        given = 0
        for _ in generate_stream(
            model,
            ids,
            _parameters(wanted, self.end_tokens),
            self._model.device,
            # FastChat truncates the prompt to this minus max_tokens minus 1 (FastChat#3399). That
            # prompt and answer fit into the context was checked before.
            context_len=len(wanted.prompt) + wanted.max_tokens + 1,
            stream_interval=1,
        ):
            if len(ids.answer) > given:  # the last token comes twice
                given = len(ids.answer)
                yield as_token(ids.answer[-1], model.scores, wanted.logprobs)


def _parameters(wanted: Completion, end_tokens: frozenset[int]) -> dict[str, object]:
    """Return a request in FastChat's terms. It neither finds stop strings nor makes text."""
    return {
        "prompt": "",
        "echo": False,
        "max_new_tokens": wanted.max_tokens,
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "top_k": wanted.top_k,
        "repetition_penalty": wanted.repetition_penalty,
        "stop_token_ids": [*end_tokens, *wanted.stop_token_ids],
    }


@dataclass
class _Ids:
    """A tokenizer whose texts are token ids: encodes to the given ids, keeps what it decodes."""

    input_ids: list[int]
    eos_token_id: int | None
    answer: list[int] = field(default_factory=list)

    def __call__(self, prompt: str) -> "_Ids":
        return self

    def decode(self, ids: list[int], **options: object) -> str:
        self.answer = ids
        return ""


class _Watched:
    """A model that exposes its last scores, and computes only those."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._options: dict[str, object] = {}
        # FastChat would compute the scores of the whole prompt, and read its last row.
        if model._supports_logits_to_keep():
            self._options["logits_to_keep"] = 1
        self.config = model.config
        self.device = model.device
        self.scores: Tensor = torch.empty(0)

    def __call__(self, **inputs: object) -> Any:
        output = self._model(**inputs, **self._options)
        self.scores = output.logits[0, -1]
        return output
