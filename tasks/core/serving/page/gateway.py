"""The page's client of the gateway: answers, ratings and deletions.

The invariant: closing an answer stops its generation, because the connection is closed.
"""

import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import openai

from tasks.core.serving.client.failures import FAILURES, FailureCause, RequestFailure, failure_of
from tasks.core.serving.client.key_variables import API_KEY_VARIABLE
from tasks.core.serving.client.turns import ChatMessage, has_room, room_question, without_oldest
from tasks.core.serving.page import words

_PIECE_S = 600.0
_QUICK_S = 30.0
_KEPT_S = 120.0  # deleting takes a while if much is stored
_LEAST_ROOM_TOKENS = 256  # a shorter answer is of little use
_SHOWN_EVERY_S = 0.06  # faster updates are not visible, and each one goes to the browser


class Trouble(Exception):
    """There is no answer; the text tells the person why."""

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(words.sorry(failure))
        self.failure = failure


@dataclass(frozen=True)
class Wish:
    """The settings of an answer."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Progress:
    """An answer so far.

    left_out counts the oldest messages that did not fit into the context. cut is true once it has
    ended at its length limit. id is the gateway's id of the answer.
    """

    text: str
    left_out: int = 0
    cut: bool = False
    id: str | None = None


class ServedModel:
    """The served model. One per process, which keeps its connections."""

    def __init__(self, base_url: str, name: str) -> None:
        self.name = name
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=os.environ.get(API_KEY_VARIABLE, "none"),
            max_retries=0,
            # trust_env: no proxy of the environment may read along.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False, timeout=_PIECE_S),
        )

    async def answer(
        self, messages: Sequence[ChatMessage], wish: Wish, *, kept_for: str | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Yield the answer as it grows, starting empty. Raises Trouble.

        With kept_for, the id of a person who agreed, the gateway stores it once it is complete. If
        the messages are too long, the oldest are left out, a question and its answer at a time;
        only a question that is too long by itself is refused.
        """
        asked = await self._with_room(messages, wish)
        while True:
            left_out = len(messages) - len(asked)
            yield Progress("", left_out)
            try:
                async with aclosing(self._pieces(asked, wish, kept_for)) as pieces:
                    async for piece in pieces:
                        yield replace(piece, left_out=left_out)
                return
            except Trouble as trouble:
                shorter = without_oldest(asked)
                if trouble.failure.cause is not FailureCause.TOO_LONG or shorter is None:
                    raise
                asked = shorter

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def rate(
        self, answer_id: str, person: str, verdict: str | None, correction: str | None
    ) -> None:
        """Return once a person's rating of an answer is stored. Raises Trouble."""
        rating = {"id": answer_id, "verdict": verdict, "correction": correction}
        await self._posted("/feedback", {**rating, "user": person})

    async def forget(self, person: str) -> int:
        """Delete the answers of a person; return how many. Raises Trouble."""
        match await self._posted("/forget", {"user": person}):
            case {"deleted": int(count)}:
                return count
        return 0

    async def _posted(self, path: str, body: dict[str, Any]) -> object:
        options: Any = {"timeout": _KEPT_S}
        try:
            return await self._client.post(path, cast_to=object, body=body, options=options)
        except FAILURES as failure:
            raise Trouble(failure_of(failure)) from failure

    async def _pieces(
        self, messages: Sequence[ChatMessage], wish: Wish, kept_for: str | None
    ) -> AsyncGenerator[Progress, None]:
        """Yield the text so far, not more often than is visible, and at the end."""
        text, cut, shown, name = "", False, 0.0, None
        consent: dict[str, Any] = {"store": True, "user": kept_for} if kept_for else {}
        try:
            stream = await self._client.chat.completions.create(
                model=self.name,
                messages=list(messages),
                stream=True,
                temperature=wish.temperature,
                max_tokens=wish.max_tokens,
                **consent,
            )
            async with stream:
                async for chunk in stream:
                    name = chunk.id
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        cut = choice.finish_reason == "length"
                    if (now := time.monotonic()) - shown >= _SHOWN_EVERY_S:
                        shown = now
                        yield Progress(text)
        except FAILURES as failure:
            raise Trouble(failure_of(failure)) from failure
        yield Progress(text, cut=cut, id=name)

    async def _with_room(self, messages: Sequence[ChatMessage], wish: Wish) -> list[ChatMessage]:
        """Return messages that leave room for an answer, which the context would cut otherwise."""
        least, asked = min(wish.max_tokens, _LEAST_ROOM_TOKENS), list(messages)
        while (shorter := without_oldest(asked)) and not await self._has_room(asked, least):
            asked = shorter
        return asked

    async def _has_room(self, messages: Sequence[ChatMessage], answer_tokens: int) -> bool:
        question = room_question(self.name, messages, answer_tokens)
        try:
            found = await self._client.post(
                "/token_check", cast_to=object, body=question, options={"timeout": _QUICK_S}
            )
        except FAILURES:
            return True  # the question itself will get an answer, or a better error
        return has_room(found)
