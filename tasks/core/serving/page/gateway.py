"""The model as the page knows it: what stands behind the gateway's address.

The invariant: whoever stops reading an answer ends its generation, for the connection closes.
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
_KEPT_S = 120.0  # to delete takes a while where much is kept
_LEAST_ROOM_TOKENS = 256  # an answer that is cut below it is hardly one
_SHOWN_EVERY_S = 0.06  # the eye sees no more, and every piece is sent to the browser


class Trouble(Exception):
    """There is no answer; the text says why, to the person who asked."""

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(words.sorry(failure))
        self.failure = failure


@dataclass(frozen=True)
class Wish:
    """How an answer is wanted."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Progress:
    """An answer so far.

    left_out counts the oldest messages that the model did not read, for want of room. cut is true
    once it has ended for its length. id is what the gateway calls the answer.
    """

    text: str
    left_out: int = 0
    cut: bool = False
    id: str | None = None


class ServedModel:
    """The served model. One for the whole process, whose connections it keeps."""

    def __init__(self, base_url: str, name: str) -> None:
        self.name = name
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=os.environ.get(API_KEY_VARIABLE, "none"),
            max_retries=0,
            # trust_env: a proxy of the environment must not read along.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False, timeout=_PIECE_S),
        )

    async def answer(
        self, messages: Sequence[ChatMessage], wish: Wish, *, kept_for: str | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Yield the answer as it grows, first of all empty. Raises Trouble.

        With kept_for, the id of a person who agrees to it, the gateway keeps it once it is whole.
        Where the model cannot read all messages the oldest are left out, a question and its answer
        at a time; only one that is too long by itself is refused.
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
        """Return once what a person thinks of an answer is kept. Raises Trouble."""
        rating = {"id": answer_id, "verdict": verdict, "correction": correction}
        await self._posted("/feedback", {**rating, "user": person})

    async def forget(self, person: str) -> int:
        """Return how many answers of a person have been deleted. Raises Trouble."""
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
        """Yield the text so far as often as it is worth showing, and at the end."""
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
        """Return what leaves room for an answer, which would be cut where the context ends."""
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
            return True  # the question itself gets an answer, or an error that says more
        return has_room(found)
