"""The endpoint of a judge: one question, one reply with its tokens, or why there is none.

Any OpenAI-compatible server. The invariants: the key goes into one header of one request to the
recipe's own address, never into an error, a log or a file; no redirect is followed with it, and
only so much of a reply is read. A server may repeat the key or what people wrote: of a refusal only
its status and its code are told.
"""

import logging
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from tasks.core.errors import JudgeRefused, JudgeUnavailable
from tasks.core.evaluation.judge_words import RULES
from tasks.core.recipe.judge import THIS_MACHINE, Judge
from tasks.core.retry import retrying

_LOG = logging.getLogger(__name__)

MAX_REPLY_BYTES = 4 << 20
WAITS_S = (1.0, 4.0, 15.0, 30.0)
"""Before each further attempt at a question."""
_MOST_S = 120.0
"""A server may ask to wait longer; then the run is the one to come again."""
_ANSWERS_WITHIN_S = 300.0
_MAY_PASS = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_MAY_BE_PAID = (408, 500, 502, 504)
"""Said by whoever stands before a model as well, which may be at work or done."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_CODE = re.compile(r"[a-z]{1,20}(_[a-z]{1,20}){0,5}")


@dataclass(frozen=True)
class Reply:
    """What the judge wrote, and the tokens that are to be paid; None where it does not say."""

    text: str
    input_tokens: int | None
    output_tokens: int | None


class _Said(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Said


class _Usage(BaseModel):
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _Why(BaseModel):
    type: str | None = None
    code: str | None = None


class _Refusal(BaseModel):
    """What OpenAI's API answers instead of a completion, without its words."""

    error: _Why


class _Again(Exception):
    """An attempt that may succeed later: after so many seconds, if the server says.

    One that `may_be_paid` has reached the server, which may have answered it all the same.
    """

    def __init__(
        self, found: str, after_s: float | None = None, *, may_be_paid: bool = False
    ) -> None:
        super().__init__(found)
        self.found, self.after_s, self.may_be_paid = found, after_s, may_be_paid


def require_key(judge: Judge) -> str | None:
    """Return the key that the judge is asked with, None where it needs none.

    Raises JudgeRefused where the variable that the recipe names is not set, or cannot be a key.
    """
    if judge.key_variable is None:
        return None
    key = os.environ.get(judge.key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise JudgeRefused(
            "The judge needs a key, and there is none." if not key else "This is no key.",
            where="evaluate.judge.key_variable",
            expected=f"the endpoint's key in the environment variable {judge.key_variable}",
            next_step=f"`export {judge.key_variable}=…` where the evaluation runs, or leave "
            "evaluate.judge out.",
        )
    return key


class Endpoint:
    """A connection to the judge."""

    def __init__(self, judge: Judge) -> None:
        """Raises JudgeRefused without the key that the recipe names."""
        key = require_key(judge)
        self._judge = judge
        self._url = f"{judge.url}/chat/completions"
        self._options: dict[str, object] = {
            "temperature": 0,
            "max_tokens": judge.max_reply_tokens,
        }
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(_ANSWERS_WITHIN_S, connect=30.0),
            follow_redirects=False,
            # A proxy of the environment must not get requests to this machine itself.
            trust_env=urlsplit(judge.url).hostname not in THIS_MACHINE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(self, text: str, lost: Callable[[], bool]) -> Reply:
        """Return the reply to one question.

        What may pass is tried again after WAITS_S, or when the server says. `lost` is called after
        each attempt that ended without a reply and may be paid; it returns whether another one is
        within the limit of cost. Raises JudgeUnavailable when it has not passed, JudgeRefused for
        what another try does not change.
        """

        def attempt() -> Reply:
            try:
                return self._reply(text)
            except _Again as again:
                if again.may_be_paid and not lost():
                    found = f"{again.found}; another try could exceed evaluate.judge.max_cost"
                    raise self._unavailable(found) from again
                raise

        try:
            return retrying(
                _Again, WAITS_S, asked_s=_asked_s, longest_asked_s=_MOST_S, on_wait=_log_wait
            )(attempt)
        except _Again as again:
            raise self._unavailable(again.found) from again

    def _reply(self, text: str) -> Reply:
        status, headers, body = self._post(text)
        if status == httpx.codes.BAD_REQUEST and self._gave_up_an_option(body):
            return self._reply(text)
        if status in _MAY_PASS:
            raise _Again(
                _shown(status, body),
                _seconds(headers.get("retry-after")),
                may_be_paid=status in _MAY_BE_PAID,
            )
        if status != httpx.codes.OK:
            raise self._refused(_shown(status, body))
        try:
            completion = _Completion.model_validate_json(body)
        except ValidationError:  # it quotes the reply
            found = f"no chat completion, but {len(body)} bytes of status {status}"
            raise self._refused(found) from None
        usage = completion.usage
        return Reply(
            completion.choices[0].message.content or "",
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
        )

    def _post(self, text: str) -> tuple[int, httpx.Headers, bytes]:
        messages = [{"role": "system", "content": RULES}, {"role": "user", "content": text}]
        request = {"model": self._judge.model, "messages": messages, **self._options}
        try:
            with self._client.stream("POST", self._url, json=request) as response:
                body = b""
                for piece in response.iter_bytes(1 << 16):
                    body += piece
                    if len(body) > MAX_REPLY_BYTES:
                        raise self._refused(f"a reply of more than {MAX_REPLY_BYTES} bytes")
                return response.status_code, response.headers, body
        except (httpx.TransportError, httpx.DecodingError) as error:
            found = f"{type(error).__name__}: {error}".rstrip(": ")
            raise _Again(found, may_be_paid=not isinstance(error, _NOT_SENT)) from error
        except httpx.InvalidURL as error:
            raise self._refused(str(error)) from error

    def _gave_up_an_option(self, body: bytes) -> bool:
        """Return whether the server refuses an option of the request that it can do without.

        Models that think know `max_completion_tokens` only, and no temperature.
        """
        for name in ("max_tokens", "temperature"):
            if name in self._options and name.encode() in body:
                value = self._options.pop(name)
                if name == "max_tokens":
                    self._options["max_completion_tokens"] = value
                return True
        return False

    def _unavailable(self, found: str) -> JudgeUnavailable:
        return JudgeUnavailable(
            "The judge does not answer.",
            where=self._url,
            found=found,
            next_step="Run again: what was judged is kept and not asked for again. Or leave "
            "evaluate.judge out.",
        )

    def _refused(self, found: str) -> JudgeRefused:
        return JudgeRefused(
            "The judge's endpoint refuses the question.",
            where=self._url,
            expected=f"a chat completion of {self._judge.model}",
            found=found,
            next_step="Correct evaluate.judge (url, model), or the key that its key_variable "
            "names. What was judged is kept.",
        )


def _asked_s(again: _Again) -> float | None:
    return again.after_s


def _log_wait(again: _Again, _: float) -> None:
    _LOG.info("the judge does not answer now (%s); trying again", again.found)


def _shown(status: int, body: bytes) -> str:
    """Return the status of a refusal, with the server's own code for it where it gives one."""
    try:
        error = _Refusal.model_validate_json(body).error
    except ValidationError:
        return str(status)
    codes = [word for word in (error.type, error.code) if word and _CODE.fullmatch(word)]
    return " ".join([str(status), *dict.fromkeys(codes)])


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header; None for a date, which is for slower affairs."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
