"""The judge's endpoint: sends one question and returns the reply with its tokens, or raises.

Works with any OpenAI-compatible server. The invariants: the key is sent only in the header of
requests to the recipe's own address, and never appears in an error, a log or a file; redirects are
not followed, and the size of a reply is limited. A server may echo the key or people's texts: of a
refusal only its status and error code are shown.
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
from tasks.core.evaluation.judge_question import RULES
from tasks.core.recipe.judge import THIS_MACHINE, Judge
from tasks.core.retry import retrying

_LOG = logging.getLogger(__name__)

MAX_REPLY_BYTES = 4 << 20
RETRY_WAITS_S = (1.0, 4.0, 15.0, 30.0)
"""Before each retry of a question."""
_LONGEST_WAIT_S = 120.0
"""If a server asks to wait longer, the run fails and can be repeated later."""
_ANSWERS_WITHIN_S = 300.0
_MAY_PASS = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_MAY_BE_PAID = (408, 500, 502, 504)
"""A proxy may send these too, while the model behind it answers, and charges, all the same."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_CODE = re.compile(r"[a-z]{1,20}(_[a-z]{1,20}){0,5}")


@dataclass(frozen=True)
class Reply:
    """The judge's reply and the tokens to pay for, None where the server does not report them."""

    text: str
    input_tokens: int | None
    output_tokens: int | None


class _ReplyMessage(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _ReplyMessage


class _Usage(BaseModel):
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _ErrorDetails(BaseModel):
    type: str | None = None
    code: str | None = None


class _Refusal(BaseModel):
    """The error reply of OpenAI's API, without its message."""

    error: _ErrorDetails


class _Retryable(Exception):
    """An attempt that may succeed later: after this many seconds, if the server says so.

    With `may_be_paid` it reached the server, which may have answered and charged for it.
    """

    def __init__(
        self, found: str, after_s: float | None = None, *, may_be_paid: bool = False
    ) -> None:
        super().__init__(found)
        self.found, self.after_s, self.may_be_paid = found, after_s, may_be_paid


def require_key(judge: Judge) -> str | None:
    """Return the judge's key, None where it needs none.

    Raises JudgeRefused where the variable that the recipe names is not set, or is not a valid key.
    """
    if judge.key_variable is None:
        return None
    key = os.environ.get(judge.key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise JudgeRefused(
            "The judge needs a key, but there is none."
            if not key
            else "The judge's key is invalid.",
            where="evaluate.judge.key_variable",
            expected=f"the endpoint's key in the environment variable {judge.key_variable}",
            next_step=f"`export {judge.key_variable}=…` where the evaluation runs, or leave "
            "evaluate.judge out.",
        )
    return key


class Endpoint:
    """A connection to the judge."""

    def __init__(self, judge: Judge) -> None:
        """Take the key that the recipe names. Raises JudgeRefused if it is not set."""
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

        Temporary failures are retried after RETRY_WAITS_S, or when the server says. `lost` is
        called after each attempt that ended without a reply and may have to be paid; it returns
        whether another one is within the cost limit. Raises JudgeUnavailable when all attempts
        failed, JudgeRefused where a retry cannot help.
        """

        def attempt() -> Reply:
            try:
                return self._reply(text)
            except _Retryable as failed:
                if failed.may_be_paid and not lost():
                    found = f"{failed.found}; a retry could exceed evaluate.judge.max_cost"
                    raise self._unavailable(found) from failed
                raise

        try:
            return retrying(
                _Retryable,
                RETRY_WAITS_S,
                asked_s=_asked_s,
                longest_asked_s=_LONGEST_WAIT_S,
                on_wait=_log_wait,
            )(attempt)
        except _Retryable as failed:
            raise self._unavailable(failed.found) from failed

    def _reply(self, text: str) -> Reply:
        status, headers, body = self._post(text)
        if status == httpx.codes.BAD_REQUEST and self._gave_up_an_option(body):
            return self._reply(text)
        if status in _MAY_PASS:
            raise _Retryable(
                _shown(status, body),
                _seconds(headers.get("retry-after")),
                may_be_paid=status in _MAY_BE_PAID,
            )
        if status != httpx.codes.OK:
            raise self._refused(_shown(status, body))
        try:
            completion = _Completion.model_validate_json(body)
        except ValidationError:  # its text quotes the reply
            found = f"{len(body)} bytes of status {status} that are not a chat completion"
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
            raise _Retryable(found, may_be_paid=not isinstance(error, _NOT_SENT)) from error
        except httpx.InvalidURL as error:
            raise self._refused(str(error)) from error

    def _gave_up_an_option(self, body: bytes) -> bool:
        """Return whether the server refuses an optional field, which is then dropped.

        Reasoning models accept only `max_completion_tokens`, and no temperature.
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
            next_step="Run again: verdicts so far are kept and not paid for twice. Or remove "
            "evaluate.judge.",
        )

    def _refused(self, found: str) -> JudgeRefused:
        return JudgeRefused(
            "The judge's endpoint refuses the question.",
            where=self._url,
            expected=f"a chat completion of {self._judge.model}",
            found=found,
            next_step="Correct evaluate.judge (url, model), or the key that its key_variable "
            "names. Verdicts so far are kept.",
        )


def _asked_s(failed: _Retryable) -> float | None:
    return failed.after_s


def _log_wait(failed: _Retryable, _: float) -> None:
    _LOG.info("the judge does not answer now (%s); trying again", failed.found)


def _shown(status: int, body: bytes) -> str:
    """Return the status of a refusal, with the server's error code if there is one."""
    try:
        error = _Refusal.model_validate_json(body).error
    except ValidationError:
        return str(status)
    codes = [word for word in (error.type, error.code) if word and _CODE.fullmatch(word)]
    return " ".join([str(status), *dict.fromkeys(codes)])


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header; None for a date, which is not supported."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
