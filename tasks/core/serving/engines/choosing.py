"""Choosing the next token of each request: a logits processor for continuous batching.

transformers samples all requests alike except for temperature, top_k and top_p. This processor
chooses each request's token itself (see sampling.py), passes it to the request's stream, and leaves
it as the only one with a score, so that the manager chooses the same.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.logits_process import LogitsProcessorList

from tasks.core.serving.engines.generator import Token
from tasks.core.serving.engines.request import Completion
from tasks.core.serving.engines.sampling import Sampler
from tasks.core.serving.engines.scores import as_token


@dataclass(frozen=True)
class Stream:
    """Where a request's tokens go: from the thread of the model to the event loop."""

    wanted: Completion
    sampler: Sampler
    tokens: asyncio.Queue[Token | Exception]
    loop: asyncio.AbstractEventLoop

    def put(self, item: Token | Exception) -> None:
        """Hand over a token, or why there is none; called from any thread."""
        self.loop.call_soon_threadsafe(self.tokens.put_nowait, item)


class OneProcessor(ContinuousBatchingLogitsProcessorList):
    """The manager's list of processors, with ours alone."""

    def __init__(self, choose: "Choose") -> None:
        super().__init__(LogitsProcessorList([choose]))
        self.tensors_required = 1  # it counts only those that it converts itself


class Choose(ContinuousBatchingLogitsProcessor):
    """Chooses the next token of each request, and leaves it as the only one with a score.

    prepare_tensor_args is called with the requests of a step, the processor itself with their
    scores, in the same order; both in the manager's thread. Nothing may be raised here: it would
    end the manager's thread, and with it every request.
    """

    def __init__(self, streams: dict[str, Stream]) -> None:
        self.supported_kwargs = {}
        self.ignored_kwargs = ()
        self._streams = streams
        self._rows: list[Stream | None] = []

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        """Fill in nothing: the arguments are kept here."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Tensor:
        """Remember whose scores come next."""
        self._rows = [
            self._streams.get(request.state.request_id) for request in requests_with_new_token
        ]
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        """Return scores (rows, vocabulary) in which only the chosen tokens have one."""
        tokens: list[int] = scores.argmax(dim=-1).tolist()
        for row, stream in enumerate(self._rows):
            if stream is not None:
                tokens[row] = _chosen(stream, scores[row], tokens[row])
        chosen = torch.tensor(tokens, device=scores.device)[:, None]
        return torch.zeros_like(scores).scatter_(1, chosen, 1.0)


def _chosen(stream: Stream, scores: Tensor, highest: int) -> int:
    """Return a request's next token once its stream has it."""
    try:
        token = highest if stream.sampler.plain else stream.sampler.choose(scores)
        stream.put(as_token(token, scores, stream.wanted.logprobs))
    except Exception as error:  # noqa: BLE001 - it is this request's, and told to it
        stream.put(error)
        return highest
    return token
