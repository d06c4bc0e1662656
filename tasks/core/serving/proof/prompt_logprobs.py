"""Asking a server for the log-probabilities of a prompt, by the engine protocol."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from tasks.core.serving.client.access import Access
from tasks.core.serving.client.request import bad_answer, request_text

_ASK_S = 300.0
"""The first request to vLLM took 33 s on a CPU, including its warm-up."""


@dataclass(frozen=True)
class PromptAnswer:
    """Log-probabilities of a prompt; system_fingerprint is OpenAI's field for the setup."""

    logprobs: tuple[float, ...]
    system_fingerprint: str | None


class _Token(BaseModel):
    logprob: float


class _Choice(BaseModel):
    prompt_logprobs: list[dict[str, _Token] | None] | None = None


class _Completion(BaseModel):
    choices: list[_Choice]
    system_fingerprint: str | None = None


class _Chunk(_Completion):
    error: dict[str, object] | None = None
    choices: list[_Choice] = Field(default_factory=list)


def ask_prompt(
    url: str,
    model_name: str,
    prompt_ids: Sequence[int],
    *,
    access: Access | None = None,
    timeout_s: float = _ASK_S,
) -> PromptAnswer:
    """Return the natural log-probabilities of a prompt's tokens from the server at url.

    Asks by the engine protocol (`prompt_logprobs`); the answer may be a stream. access holds the
    key if one is required. Raises ServingFailed when the answer does not come in time.
    """
    where = f"{url}/v1/completions"
    body: dict[str, object] = {
        "model": model_name,
        "prompt": list(prompt_ids),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }
    answer = _first(request_text("POST", where, body, access=access, timeout_s=timeout_s), where)
    given = answer.choices[0].prompt_logprobs if answer.choices else None
    try:
        pairs = zip(prompt_ids[1:], (given or [])[1:], strict=True)
        found = tuple((said or {})[str(number)].logprob for number, said in pairs)
    except (KeyError, ValueError) as error:
        raise bad_answer(
            "The answer holds no log-probabilities of the prompt.", where, error
        ) from error
    return PromptAnswer(found, answer.system_fingerprint)


def _first(text: str, where: str) -> _Completion:
    """Return the answer, or the first event with a choice of a stream."""
    events = [line.removeprefix("data:").strip() for line in text.split("\n")]
    try:
        chunks = [_Chunk.model_validate_json(event) for event in events if event.startswith("{")]
    except ValidationError as error:
        raise bad_answer("Another server answers there.", where, text[:200]) from error
    fault = next((chunk.error for chunk in chunks if chunk.error), None)
    chunk = next((chunk for chunk in chunks if chunk.choices), None)
    if fault or chunk is None:
        raise bad_answer("The answer is an error.", where, fault or text[:200])
    return chunk
