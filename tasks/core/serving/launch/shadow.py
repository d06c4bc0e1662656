"""Shadow requests: what clients asked, repeated for the new model, beside the earlier answers.

Uses the last requests or, if none can be repeated, the evaluation's prompts. Nothing is judged
here, since other weights answer differently; the report shows both answers to a person. But an
engine that does not answer what its gateway would ask does not get to serve. Each request is made
by the gateway's own rules; what the gateway would refuse is reported instead.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import JsonValue
from pydantic_core import to_json

from tasks.core.conversation.tokenizer.identity import tokenizer_digest
from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.errors import ServingFailed
from tasks.core.files.locks import Say
from tasks.core.serving.gateway.api_error import ApiError
from tasks.core.serving.gateway.engine_requests import AnswerLimits, bodies_of
from tasks.core.serving.gateway.prompts import Prompts, PromptTurn
from tasks.core.serving.gateway.recent import RecentAnswer
from tasks.core.serving.gateway.request_body import read_request
from tasks.core.serving.gateway.requests import ChatRequest, CompletionRequest, Message
from tasks.core.serving.gateway.routing import LoadedRoute
from tasks.core.serving.health import probe
from tasks.core.serving.state.record import AskedOf, Deployment, ShadowAnswer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_TOKENS = 48
_SHOWN = 300  # characters of each text, from the end of what was asked

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ShadowQuestion:
    """A request of the engine protocol, and the earlier model's answer to it, if one serves."""

    asked: str
    request: Mapping[str, JsonValue]
    earlier: str | None


@dataclass(frozen=True)
class ShadowQuestions:
    """What the new model is asked before it serves, and where the questions come from.

    not_asked: why some or all of the last requests are missing; None if none is.
    """

    source: AskedOf
    all: tuple[ShadowQuestion, ...]
    not_asked: str | None = None


def questions(
    recent: Sequence[RecentAnswer],
    prompts: Sequence[str],
    wanted: Deployment,
    serving: Deployment | None,
    *,
    say: Say,
) -> ShadowQuestions:
    """Return the questions for `wanted`, with the answers of `serving` while it can be asked.

    Last requests are token ids, so they need the same tokenizer, and the gateway must accept them
    for the new engine. `say` gets a line about the others. Each answer has at most _TOKENS tokens.
    """
    count = wanted.settings.shadow_requests
    if count == 0:
        return ShadowQuestions("requests", ())
    asked, not_asked = _of_clients(recent[-count:], wanted, serving)
    if not_asked is not None:
        say(not_asked)
    if asked:
        return ShadowQuestions("requests", asked, not_asked)
    return ShadowQuestions("prompts", _of_prompts(prompts[:count], wanted, serving), not_asked)


def replay(asked: ShadowQuestions, wanted: Deployment, *, say: Say) -> tuple[ShadowAnswer, ...]:
    """Return the answers of the engine of `wanted`. Raises ServingFailed if it does not answer."""
    if not asked.all:
        return ()
    words = "the last requests" if asked.source == "requests" else "prompts of the evaluation"
    say(f"The new model answers {words}: {len(asked.all)}.")

    def answered(question: ShadowQuestion) -> ShadowAnswer:
        timeout_s = wanted.settings.startup_timeout_s
        new = probe.answer_of(wanted, question.request, timeout_s=timeout_s)
        earlier = question.earlier and question.earlier[:_SHOWN]
        return ShadowAnswer(asked=question.asked[-_SHOWN:], earlier=earlier, new=new)

    return tuple(_at_once(answered, asked.all, wanted))


def _of_clients(
    recent: Sequence[RecentAnswer], wanted: Deployment, serving: Deployment | None
) -> tuple[tuple[ShadowQuestion, ...], str | None]:
    """Return the last requests that can be repeated, and why the others cannot."""
    if not recent or serving is None:
        return (), None
    tokenizer = load_tokenizer(serving.model)
    if tokenizer_digest(tokenizer) != tokenizer_digest(load_tokenizer(wanted.model)):
        return (), "The new model has another tokenizer, so the last requests are not repeated."
    asker = _Asker(wanted)
    questions: list[ShadowQuestion] = []
    refusals: list[str] = []
    for each in recent:
        try:
            questions.append(_of_client(each, asker, tokenizer))
        except ApiError as error:
            refusals.append(error.message)
    if not refusals:
        return tuple(questions), None
    whys = " ".join(dict.fromkeys(refusals))
    return tuple(questions), (
        f"{len(refusals)} of the last {len(recent)} requests are not repeated, because the gateway "
        f"would refuse them now: {whys}"
    )


def _of_client(
    recent: RecentAnswer, asker: "_Asker", tokenizer: "PreTrainedTokenizerBase"
) -> ShadowQuestion:
    request = asker.again(recent.request)
    asked = str(tokenizer.decode(recent.request["prompt"], skip_special_tokens=True))
    return ShadowQuestion(asked, request, recent.text)


def _of_prompts(
    texts: Sequence[str], wanted: Deployment, serving: Deployment | None
) -> tuple[ShadowQuestion, ...]:
    """Return a question for each text that fits, with the answer of `serving`."""
    if not texts:
        return ()
    new = _Asker(wanted)
    old = _Asker(serving) if serving is not None else None

    def question(text: str) -> ShadowQuestion | None:
        try:
            request = new.request(text)
        except ApiError:
            return None
        return ShadowQuestion(text, request, old.answer(text) if old is not None else None)

    asked = _at_once(question, texts, serving or wanted)
    return tuple(each for each in asked if each is not None)


class _Asker:
    """Asks the engine of a deployment as its gateway would."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._prompts = Prompts(deployment.model, deployment.template, deployment.context_tokens)
        self._loaded = LoadedRoute(deployment.route, self._prompts)
        most = min(_TOKENS, deployment.settings.gateway.max_answer_tokens)
        self._limits = AnswerLimits(most, most)

    def request(self, text: str) -> Mapping[str, JsonValue]:
        """Return the request for a user's first message. Raises ApiError if it leaves no room."""
        name = self._deployment.settings.model_name
        said = [Message(role="user", content=text)]
        asked = ChatRequest(model=name, messages=said, temperature=0)
        ids = self._prompts.ids_now(self._prompts.text([PromptTurn("user", text)]))
        return bodies_of(asked, [ids], self._loaded, self._limits)[0]

    def again(self, request: Mapping[str, Any]) -> Mapping[str, JsonValue]:
        """Return a request of another engine for this one. Raises ApiError if it does not suit."""
        asked = read_request(CompletionRequest, to_json(request))
        ids = self._prompts.check_ids(request["prompt"], "prompt")
        return bodies_of(asked, [ids], self._loaded, self._limits)[0]

    def answer(self, text: str) -> str | None:
        """Return its answer; None without one, since this engine will be replaced anyway."""
        try:
            request = self.request(text)
            return probe.answer_of(self._deployment, request, timeout_s=probe.GENERATE_S)
        except ApiError:
            return None
        except ServingFailed as error:
            logger.warning("the earlier model does not answer a prompt: %s", error)
            return None


def _at_once(
    answer: Callable[[_Item], _Result], items: Sequence[_Item], of: Deployment
) -> list[_Result]:
    """Return all answers, asked at once: an engine that batches takes as long as for one."""
    with ThreadPoolExecutor(of.settings.gateway.max_running) as threads:
        return list(threads.map(answer, items))
