"""A conversation with a served model, through the openai client.

Covers one answer, streamed or whole. The server is on this machine and knows no key. The invariant:
`max_tokens` always goes along, because FastChat ignores `max_completion_tokens` and without a limit
generates to the end of the context, also when the client has gone.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypedDict

import httpx
import openai

from tasks.core.errors import KawanUsahaError, ServingFailed, UsageError

_CONTEXT_OVERFLOW = 40303
_INVALID_MODEL = 40301


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def chat(
    base_url: str,
    model: str,
    messages: Sequence[Message],
    *,
    stream: bool,
    max_tokens: int = 512,
    temperature: float = 0.7,
    timeout_s: float = 600.0,
) -> Iterator[str]:
    """Yield the answer's text: piece by piece as it is generated, or whole.

    base_url ends in /v1 (Deployment.base_url). timeout_s is how long the next piece, or the whole
    answer, may take. Raises UsageError when the conversation is longer than the model's context or
    the model is not the served one, ServingFailed when the server does not answer or fails.
    """
    # trust_env: a proxy of the environment must not get requests to this machine itself.
    with (
        httpx.Client(trust_env=False, timeout=timeout_s) as transport,
        openai.OpenAI(
            base_url=base_url, api_key="none", http_client=transport, max_retries=0
        ) as client,
    ):
        try:
            answer = client.chat.completions.create(
                model=model,
                messages=list(messages),
                stream=stream,
                max_tokens=max_tokens,
                temperature=temperature,
            )
            if stream:
                yield from _pieces(answer, base_url)
            else:
                yield answer.choices[0].message.content or ""
        except openai.APIStatusError as error:
            raise _refused(error, base_url) from error
        except openai.APIConnectionError as error:
            raise _failed("The model cannot be reached.", base_url, error) from error
        except httpx.HTTPError as error:  # while streaming
            raise _failed("The connection broke off.", base_url, error) from error


def _pieces(chunks: Any, base_url: str) -> Iterator[str]:
    for chunk in chunks:
        # FastChat reports a failure in the middle as a chunk of its own shape.
        if code := (chunk.model_extra or {}).get("error_code"):
            raise _failed("The model failed.", base_url, f"{code}: {chunk.model_extra['text']}")
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            yield piece


def _refused(error: openai.APIStatusError, base_url: str) -> KawanUsahaError:
    body = error.body if isinstance(error.body, dict) else {}
    code, message = body.get("code"), body.get("message", error.message)
    if code == _CONTEXT_OVERFLOW:
        return UsageError(
            "The conversation is longer than the model can read.",
            where=base_url,
            found=message,
            next_step="Lower max_tokens (`--max-tokens`), shorten the question, or leave out the "
            "oldest turns: a new `kawan-usaha chat` begins without any.",
        )
    if code == _INVALID_MODEL:
        return UsageError(
            "No such model is served.",
            where=base_url,
            found=message,
            next_step="`kawan-usaha status` tells what runs.",
        )
    return _failed("The server answers with an error.", base_url, message)


def _failed(what: str, where: str, found: object) -> ServingFailed:
    return ServingFailed(
        what, where=where, found=found, next_step="`kawan-usaha status` tells what runs."
    )
