"""What clients ask, once more, of the model that is to serve: its answers beside the earlier one's.

The last requests, or where nobody has asked anything yet, the evaluation's prompts. Nothing is
judged here, since other weights answer otherwise; both answers stand in the report, for a person.
But an engine that gives no answer to what clients really ask does not get to serve.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import JsonValue

from tasks.core.conversation.tokenizer_files import load_tokenizer
from tasks.core.conversation.tokenizer_identity import tokenizer_digest
from tasks.core.errors import ServingFailed
from tasks.core.locks import Say
from tasks.core.serving import probe
from tasks.core.serving.gateway.api_error import ApiError
from tasks.core.serving.gateway.prompts import Prompts, Turn
from tasks.core.serving.gateway.recent import RecentAnswer
from tasks.core.serving.record import AskedOf, Deployment, ShadowAnswer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_TOKENS = 48
_SHOWN = 300  # characters of each text, from the end of what was asked

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Question:
    """A request of the engine protocol, and what the earlier model answers to it, if one serves."""

    asked: str
    request: Mapping[str, JsonValue]
    earlier: str | None


@dataclass(frozen=True)
class Questions:
    """What the new model is asked before it serves, and where it comes from."""

    source: AskedOf
    all: tuple[Question, ...]


def questions(
    recent: Sequence[RecentAnswer],
    prompts: Sequence[str],
    wanted: Deployment,
    serving: Deployment | None,
    *,
    say: Say,
) -> Questions:
    """Return what `wanted` is to be asked, while `serving` can still be asked the same.

    Of the last requests only those count that a model with this tokenizer can be asked: they are
    token ids. Each answer has at most _TOKENS tokens.
    """
    count = wanted.settings.shadow_requests
    if count == 0:
        return Questions("requests", ())
    if recent and serving is not None:
        tokenizer = load_tokenizer(serving.model)
        if tokenizer_digest(tokenizer) == tokenizer_digest(load_tokenizer(wanted.model)):
            asked = tuple(_of_client(each, tokenizer) for each in recent[-count:])
            return Questions("requests", asked)
        say("The new model has another tokenizer: the last requests are not replayed.")
    return Questions("prompts", _of_prompts(prompts[:count], wanted, serving))


def replay(asked: Questions, wanted: Deployment, *, say: Say) -> tuple[ShadowAnswer, ...]:
    """Return what the engine of `wanted` answers. Raises ServingFailed when it does not answer."""
    if not asked.all:
        return ()
    words = "the last requests" if asked.source == "requests" else "prompts of the evaluation"
    say(f"The new model answers {words}: {len(asked.all)}.")

    def answered(question: Question) -> ShadowAnswer:
        request = {**question.request, "model": wanted.settings.model_name}
        new = probe.answer_of(wanted, request, timeout_s=wanted.settings.startup_timeout_s)
        earlier = question.earlier and question.earlier[:_SHOWN]
        return ShadowAnswer(asked=question.asked[-_SHOWN:], earlier=earlier, new=new)

    return tuple(_at_once(answered, asked.all, wanted))


def _of_client(recent: RecentAnswer, tokenizer: "PreTrainedTokenizerBase") -> Question:
    request = recent.request
    asked = str(tokenizer.decode(request["prompt"], skip_special_tokens=True))
    shortened = {**request, "max_tokens": min(request["max_tokens"], _TOKENS)}
    return Question(asked, shortened, recent.text)


def _of_prompts(
    texts: Sequence[str], wanted: Deployment, serving: Deployment | None
) -> tuple[Question, ...]:
    """Return a question for each text that has room, with the answer of `serving`."""
    if not texts:
        return ()
    new = _Asker(wanted)
    old = _Asker(serving) if serving is not None else None

    def question(text: str) -> Question | None:
        request = new.request(text)
        if request is None:
            return None
        return Question(text, request, old.answer(text) if old is not None else None)

    asked = _at_once(question, texts, serving or wanted)
    return tuple(each for each in asked if each is not None)


class _Asker:
    """Asks the engine of a deployment as its gateway would."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._prompts = Prompts(deployment.model, deployment.template, deployment.context_tokens)

    def request(self, text: str) -> dict[str, JsonValue] | None:
        """Return the request for a user's first words; None where they leave no room."""
        prompts = self._prompts
        ids: list[JsonValue] = [*prompts.ids_now(prompts.text([Turn("user", text)]))]
        try:
            room = prompts.answer_tokens(len(ids), _TOKENS)
        except ApiError:
            return None
        return {
            "model": self._deployment.settings.model_name,
            "prompt": ids,
            "max_tokens": room,
            "temperature": 0,
            "stop": [*prompts.stop],
            "stop_token_ids": [*prompts.stop_token_ids],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def answer(self, text: str) -> str | None:
        """Return its answer; None where it gives none: it is the one to be replaced."""
        request = self.request(text)
        if request is None:
            return None
        try:
            return probe.answer_of(self._deployment, request, timeout_s=probe.GENERATE_S)
        except ServingFailed as error:
            logger.warning("the earlier model does not answer a prompt: %s", error)
            return None


def _at_once(
    answer: Callable[[_Item], _Result], items: Sequence[_Item], of: Deployment
) -> list[_Result]:
    """Return the answers: an engine that computes several together takes as long as for one."""
    with ThreadPoolExecutor(of.settings.gateway.max_running) as threads:
        return list(threads.map(answer, items))
