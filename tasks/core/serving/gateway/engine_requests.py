"""Translating a client's request into requests of the engine protocol: token ids and a length.

The invariant: a field that the route's engine does not support is refused by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.serving.gateway.api_error import ApiError, FastChatCode, refused
from tasks.core.serving.gateway.prompts import Prompts
from tasks.core.serving.gateway.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from tasks.core.serving.gateway.routing import LoadedRoute
from tasks.core.serving.state.routes import Route


@dataclass(frozen=True)
class AnswerLimits:
    """How long answers are: by default, and at most."""

    default_tokens: int
    max_tokens: int


async def bodies_for(
    request: ChatRequest | CompletionRequest, loaded: LoadedRoute, limits: AnswerLimits
) -> list[dict[str, Any]]:
    """Return a body of the engine protocol for each answer: n for a prompt, the prompts in order.

    Raises ApiError for what this route's engine does not support, and if no answer fits.
    """
    return bodies_of(request, await _ids(request, loaded.prompts), loaded, limits)


def bodies_of(
    request: ChatRequest | CompletionRequest,
    prompts_ids: Sequence[Sequence[int]],
    loaded: LoadedRoute,
    limits: AnswerLimits,
) -> list[dict[str, Any]]:
    """Return the same for prompts whose token ids are known. Raises as `bodies_for`."""
    _refuse_what_it_lacks(request, loaded)
    prompts = loaded.prompts
    wanted = min(request.wanted_tokens or limits.default_tokens, limits.max_tokens)
    common = {
        "model": loaded.route.model_name,
        **request.of_every_engine(),
        "stop": _stops(request.stop, loaded),
        "stop_token_ids": list(dict.fromkeys((*request.stop_token_ids, *prompts.stop_token_ids))),
        **request.extras(),
    }
    if "prompt_logprobs" not in common:  # vLLM does not stream with them
        common |= {"stream": True, "stream_options": {"include_usage": True}}
    bodies = []
    for ids in prompts_ids:
        room = prompts.answer_tokens(len(ids), wanted)
        for answer in range(request.n):
            body = {**common, "prompt": [*ids], "max_tokens": room}
            if request.seed is not None:  # otherwise all n would be the same
                body["seed"] = request.seed + answer
            bodies.append(body)
    return bodies


async def embedding_body(request: EmbeddingRequest, loaded: LoadedRoute) -> dict[str, Any]:
    """Return the body of the engine protocol for embeddings. Raises ApiError."""
    route = loaded.route
    if not route.embeds:
        raise ApiError(
            FastChatCode.PARAM_OUT_OF_RANGE,
            f"The engine `{route.engine}` gives no embeddings.",
            param="model",
        )
    ids = await ids_of(request.input, loaded.prompts, "input")
    longest = max(map(len, ids))
    if longest > loaded.prompts.context_tokens:
        raise loaded.prompts.overflow(longest)
    return {"model": route.model_name, "input": ids}


async def ids_of(
    given: str | Sequence[int] | Sequence[str] | Sequence[list[int]], prompts: Prompts, param: str
) -> list[list[int]]:
    """Return the token ids of one text or of several, each given as text or as ids.

    Raises ApiError for a text without a token, from which no engine can continue.
    """
    found = await _ids_of(given, prompts, param)
    if not all(found):
        raise refused(param, f"{param}: a text without a token; the tokenizer adds none by itself.")
    return found


async def _ids_of(
    given: str | Sequence[int] | Sequence[str] | Sequence[list[int]], prompts: Prompts, param: str
) -> list[list[int]]:
    if isinstance(given, str):
        return [await prompts.ids(given)]
    if isinstance(given[0], int):
        return [prompts.check_ids([i for i in given if isinstance(i, int)], param)]
    return [
        await prompts.ids(one)
        if isinstance(one, str)
        else prompts.check_ids(one if isinstance(one, list) else [], param)
        for one in given
    ]


def require_model(asked: str, route: Route) -> None:
    """Raise ApiError unless the requested model is the one that is served."""
    if asked != route.model_name:
        raise ApiError(
            FastChatCode.INVALID_MODEL,
            f"Only {route.model_name} allowed now, your model {asked}",
            param="model",
        )


def require_build(wanted: str | None, route: Route) -> None:
    """Raise ApiError unless the build that another gateway requests is the one that is served."""
    if wanted not in (None, route.build):
        raise ApiError(
            FastChatCode.INVALID_MODEL,
            f"This machine serves build {route.build}, not {wanted}.",
            status=421,  # misdirected: the other gateway will ask elsewhere
            error_code="other_build",
        )


async def _ids(request: ChatRequest | CompletionRequest, prompts: Prompts) -> list[list[int]]:
    if isinstance(request, CompletionRequest):
        return await ids_of(request.prompt, prompts, "prompt")
    if isinstance(request.messages, str):
        return await ids_of(request.messages, prompts, "messages")
    return [await prompts.ids(prompts.text([message.turn() for message in request.messages]))]


def _stops(wanted: Sequence[str], loaded: LoadedRoute) -> list[str]:
    return list(dict.fromkeys((*wanted, *loaded.prompts.stop)))


def _refuse_what_it_lacks(request: ChatRequest | CompletionRequest, loaded: LoadedRoute) -> None:
    route = loaded.route
    for name in request.extras():
        if name not in route.takes:
            raise refused(name, f"`{name}` is not supported by the engine `{route.engine}`.")
    most = route.most_stops
    if most is not None and len(_stops(request.stop, loaded)) > most:
        raise refused(
            "stop",
            f"stop: the engine `{route.engine}` accepts {most} texts, including the template's.",
        )
