"""transformers' continuous batching as a Generator: one token for each of many answers per step.

The invariant: a request is admitted only when all the cache that it may need is free. Otherwise the
manager would take the cache of a running request and start that request over later; and then it
admits nothing until a request *finishes*, which never happens if all are cancelled instead.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager

from tasks.core.serving.engines.cache_room import PAGE_TOKENS, CacheRoom
from tasks.core.serving.engines.choosing import Choose, OneProcessor, Stream
from tasks.core.serving.engines.forward import embeddings, prompt_logprobs
from tasks.core.serving.engines.generator import GeneratorRoom, Token
from tasks.core.serving.engines.loaded import context_of, end_tokens_of, vocabulary_of
from tasks.core.serving.engines.request import Completion
from tasks.core.serving.engines.sampling import Sampler

_POLL_S = 0.2
_STOP_S = 3.0


class BatchingGenerator:
    """A Generator (see generator.py) over a ContinuousBatchingManager."""

    def __init__(self, model: Any, tokenizer: Any, room: CacheRoom, *, requests: int) -> None:
        self._model = model
        self.context_tokens = context_of(model)
        self.vocabulary = vocabulary_of(model)
        self.end_tokens = end_tokens_of(model, tokenizer)
        self.room = GeneratorRoom(requests=requests, capacity=room.blocks)
        self._streams: dict[str, Stream] = {}
        self._numbers = count()
        self._manager = ContinuousBatchingManager(
            model,
            GenerationConfig(do_sample=False, eos_token_id=-1),  # type: ignore[no-untyped-call]
            _configuration(room, requests),
        )
        self._manager.logit_processor = OneProcessor(Choose(self._streams))
        self._manager.start()
        threading.Thread(target=self._watch, name="batching-watch", daemon=True).start()

    def check(self, wanted: Completion) -> None:
        """Accept every request: all fields are supported."""

    def cost(self, wanted: Completion) -> int:
        """Return how many cache blocks prompt and answer may need."""
        return -(-(len(wanted.prompt) + wanted.max_tokens) // PAGE_TOKENS)

    async def generate(self, wanted: Completion) -> AsyncGenerator[Token, None]:
        """Yield the tokens of an answer."""
        name = f"request-{next(self._numbers)}"
        sampler = Sampler(wanted, self._model.device)
        stream = Stream(wanted, sampler, asyncio.Queue(), asyncio.get_running_loop())
        self._streams[name] = stream
        try:
            self._manager.add_request(
                list(wanted.prompt),
                request_id=name,
                max_new_tokens=wanted.max_tokens,
                eos_token_id=[*self.end_tokens, *wanted.stop_token_ids],
            )
            if (failure := self.failure()) is not None:
                raise RuntimeError(failure)
            while True:
                item = await stream.tokens.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            del self._streams[name]
            self._manager.cancel_request(name)

    async def prompt_logprobs(self, prompt: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first."""

        def between_steps() -> list[float]:
            with self._manager.pause():
                return prompt_logprobs(self._model, prompt)

        return await asyncio.to_thread(between_steps)

    async def embed(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return for each text the mean of its last hidden states, of length 1."""
        batches = embeddings(self._model, texts)

        def between_steps() -> list[float] | None:
            with self._manager.pause():
                return next(batches, None)

        found: list[list[float]] = []
        while (one := await asyncio.to_thread(between_steps)) is not None:
            found.append(one)
        return found

    def failure(self) -> str | None:
        """Return why the model's thread has ended, None while it runs."""
        if self._manager.is_running():
            return None
        return f"the model's thread has ended: {self._manager.background_thread_status.fatal_error}"

    def close(self) -> None:
        """End the model's thread."""
        self._manager.stop(block=True, timeout=_STOP_S, hard_stop=True)

    def _watch(self) -> None:
        """Consume the manager's results, and pass failures on to the streams."""
        while self._manager.is_running():
            result = self._manager.get_result(timeout=_POLL_S)
            if result is not None and result.error is not None:
                self._fail(result.request_id, result.error)
        for name in list(self._streams):
            self._fail(name, self.failure() or "the model's thread has ended")

    def _fail(self, name: str, why: str) -> None:
        stream = self._streams.get(name)
        if stream is not None:
            stream.put(RuntimeError(why))


def _configuration(room: CacheRoom, requests: int) -> ContinuousBatchingConfig:
    return ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=room.blocks,
        max_batch_tokens=max(room.batch_tokens, requests),
        max_requests_per_batch=requests,
        # NaN in one request reaches the others in the batch (0 x NaN is NaN), and would stay in a
        # shared prefix for requests that begin with the same words.
        allow_block_sharing=False,
        safety_margin=0.0,  # see the invariant: admitted requests fit
        use_cuda_graph=False,  # tokens are chosen in Python between two steps
        use_async_batching=False,
        auto_switch_to_flash=False,
        # CacheRoom sizes everything; this is only another bound.
        max_memory_percent=1.0,
    )
