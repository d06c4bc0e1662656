"""One answer as chunks of OpenAI's completion API: text, finish reason, log-probabilities, usage.

Decides where an answer ends: after an end or stop token, at a stop string, at max_tokens. The token
or string that ended it is not part of the text, but counts as generated.
"""

import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import JsonValue

from tasks.core.serving.engines.generator import Token
from tasks.core.serving.engines.request import Completion
from tasks.core.serving.engines.text import Detokenizer, StopStrings, TextDecoder, decoded

DONE: Final = b"data: [DONE]\n\n"
_LEAST = -9999.0  # JSON has no infinity; vLLM says the same

FinishReason = Literal["stop", "length"]


class AnswerChunks:
    """The chunks of one answer, in order: `add` for each token until `finish_reason` is set."""

    def __init__(
        self, wanted: Completion, tokenizer: TextDecoder, end_tokens: frozenset[int]
    ) -> None:
        self._wanted = wanted
        self._tokenizer = tokenizer
        self._ends = end_tokens | set(wanted.stop_token_ids)
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(wanted.stop)
        self._logprobs = _Logprobs(tokenizer)
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._tokens = 0
        self.finish_reason: FinishReason | None = None

    def add(self, token: Token, *, prompt_logprobs: Sequence[float] | None = None) -> bytes | None:
        """Return the event for a token; None if there is nothing to send yet.

        The first token always makes one, which shows that the model works. prompt_logprobs are
        added to it if they are wanted.
        """
        self._tokens += 1
        text = self._text(token)
        if self._wanted.logprobs is not None:
            self._logprobs.add(token)
        if not (text or self._tokens == 1 or self._logprobs.pending or self.finish_reason):
            return None
        choice: dict[str, JsonValue] = {
            "index": 0,
            "text": text,
            "logprobs": self._logprobs.take() if self._logprobs.pending else None,
            "finish_reason": self.finish_reason,
        }
        if prompt_logprobs is not None:
            choice["prompt_logprobs"] = _for_prompt(self._wanted.prompt, prompt_logprobs)
        return self._event({"choices": [choice]})

    def usage(self) -> bytes:
        """Return the second to last event, with the number of tokens."""
        prompt = len(self._wanted.prompt)
        usage: dict[str, JsonValue] = {
            "prompt_tokens": prompt,
            "completion_tokens": self._tokens,
            "total_tokens": prompt + self._tokens,
        }
        return self._event({"choices": [], "usage": usage})

    def _text(self, token: Token) -> str:
        """Return the text that can be sent after a token; set finish_reason at the end."""
        last = token.id in self._ends or self._tokens == self._wanted.max_tokens
        new = "" if token.id in self._ends else self._detokenizer.add(token.id)
        text, stopped = self._stops.add(new + self._detokenizer.rest() if last else new)
        if token.id in self._ends or stopped:
            self.finish_reason = "stop"
        elif last:
            self.finish_reason = "length"
        return text if stopped or not last else text + self._stops.rest()

    def _event(self, fields: Mapping[str, JsonValue]) -> bytes:
        return event(
            {
                "id": self._id,
                "object": "text_completion",
                "created": self._created,
                "model": self._wanted.model,
                **fields,
            }
        )


def event(fields: Mapping[str, JsonValue]) -> bytes:
    """Return a server-sent event."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


class _Logprobs:
    """OpenAI's `logprobs` object of the tokens since the last event."""

    def __init__(self, tokenizer: TextDecoder) -> None:
        self._tokenizer = tokenizer
        self._offset = 0
        self.pending: list[Token] = []

    def add(self, token: Token) -> None:
        self.pending.append(token)

    def take(self) -> dict[str, JsonValue]:
        names = [decoded(self._tokenizer, [token.id]) for token in self.pending]
        offsets: list[JsonValue] = []
        for name in names:
            offsets.append(self._offset)
            self._offset += len(name)
        values: list[JsonValue] = [_finite(token.logprob) for token in self.pending]
        likeliest: list[JsonValue] = [self._likeliest(token) for token in self.pending]
        self.pending = []
        return {
            "text_offset": offsets,
            "token_logprobs": values,
            "tokens": list[JsonValue](names),
            "top_logprobs": likeliest,
        }

    def _likeliest(self, token: Token) -> JsonValue:
        found: dict[str, JsonValue] = {}
        for each, logprob in (*token.likeliest, (token.id, token.logprob)):
            # Two tokens may have the same text, as incomplete characters do: the likelier counts.
            found.setdefault(decoded(self._tokenizer, [each]), _finite(logprob))
        return found


def _for_prompt(prompt: Sequence[int], logprobs: Sequence[float]) -> JsonValue:
    told: list[JsonValue] = [None]
    for token, logprob in zip(prompt[1:], logprobs, strict=True):
        told.append({str(token): {"logprob": _finite(logprob)}})
    return told


def _finite(logprob: float | None) -> float | None:
    return logprob if logprob is None or math.isfinite(logprob) else _LEAST
