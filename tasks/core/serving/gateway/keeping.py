"""Storing answers with consent, off the event loop: one thread writes, in order of arrival.

The invariant: no answer waits for the disk or fails because of it. What could not be stored is
counted and logged, without any of its text. A rating is confirmed only once it is stored.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tasks.core.collected.keeper import (
    MOST_RATINGS,
    CollectionLimits,
    Keeper,
    KeepOutcome,
    OfferedAnswer,
)
from tasks.core.collected.storage.records import CollectedMessage
from tasks.core.errors import KawanUsahaError
from tasks.core.recipe.deploy import Collect
from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.assembling import AssembledAnswer
from tasks.core.serving.gateway.chat_shape import is_own_id
from tasks.core.serving.gateway.consent import FeedbackRequest
from tasks.core.serving.gateway.engine_client import AnswerPiece
from tasks.core.serving.gateway.merging import Event
from tasks.core.serving.gateway.request_trace import RequestTrace
from tasks.core.serving.gateway.requests import ChatRequest

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 1000
_MOST_WAITING_BYTES = 64 << 20
_MOST_WISHES = 8
_TIDY_EVERY_S = 3600.0
_RETRY_AFTER_S = 30

Result = TypeVar("Result")
CountIncident = Callable[[str], None]


class Keeping:
    """The collected answers of a deployment, for the gateway. Create it inside the running loop.

    Without a directory nothing is stored. Without `collect` nothing new is stored, but what is
    there can still be deleted, and expires.
    """

    def __init__(
        self, directory: Path | None, collect: Collect | None, incident: CountIncident
    ) -> None:
        self._keeper = None
        if directory is not None:
            of = collect or Collect()
            self._keeper = Keeper(directory, CollectionLimits(of.retention_days, of.max_bytes))
        self.collects = directory is not None and collect is not None
        self._incident = incident
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collected")
        self._waiting = self._waiting_bytes = self._wishes = 0

    async def kept(
        self,
        events: AsyncGenerator[Event, None],
        asked: ChatRequest,
        answer_id: str,
        trace: RequestTrace,
        client: str,
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of one answer, and store it once it is complete.

        client is the name of the key. The answer is queued for the disk before the client learns of
        its end, so that a rating comes after it.
        """
        answer, begun = AssembledAnswer(), datetime.now(UTC)
        async with aclosing(events):
            async for event in events:
                if isinstance(event[1], AnswerPiece):
                    answer.add(event[1])
                yield event
        if answer.finish_reason is not None:
            self._offer(_offered(asked, answer_id, trace, answer, client=client, begun=begun))

    async def rate(self, asked: FeedbackRequest, client: str) -> None:
        """Return once a rating is on the disk. Raises ApiError."""
        keeper = self._keeper
        # Any other id would be searched for in all files.
        if keeper is None or not is_own_id(asked.id):
            raise _unknown()
        outcome = await self._wished(
            lambda: keeper.rate(asked.id, client, asked.user, asked.verdict, asked.correction)
        )
        if outcome == "unknown":
            raise _unknown()
        if outcome == "too-many":
            raise _rated_enough()
        if outcome == "no-room":
            self._incident("collected-full")
            raise _not_now("There is no space for more today.")

    async def forget(self, user: str, client: str) -> int:
        """Delete the answers of a client's person; return how many. Raises ApiError."""
        keeper = self._keeper
        return 0 if keeper is None else await self._wished(lambda: keeper.forget(client, user))

    async def tidy_now_and_then(self) -> None:
        """Delete what has expired, now and every hour."""
        keeper = self._keeper
        while keeper is not None:
            try:
                await self._done(keeper.tidy)
                if self.collects:
                    await self._done(keeper.prepare)
            except ApiError:
                _LOG.debug("retried later")  # counted and logged already
            await asyncio.sleep(_TIDY_EVERY_S)

    def close(self) -> None:
        """Return once everything that waits has been written."""
        self._thread.shutdown(wait=True)

    def _offer(self, offered: OfferedAnswer) -> None:
        keeper, size = self._keeper, offered.size_bytes
        if keeper is None:
            return
        try:
            self._submitted(lambda: keeper.keep(offered), size).add_done_callback(self._ended)
        except ApiError as error:
            self._failed("collected-dropped", error.message)

    def _ended(self, work: "asyncio.Future[KeepOutcome]") -> None:
        if (error := work.exception()) is not None:
            self._failed("collected-not-kept", _in_short(error))
        elif work.result() == "no-room":
            self._failed("collected-full", "today's file has reached deploy.collect.max_bytes")

    async def _wished(self, call: Callable[[], Result]) -> Result:
        """Queue a rating or a deletion; only a few, since answers wait in the same queue."""
        if self._wishes >= _MOST_WISHES:
            raise _not_now("Too many such requests are waiting.")
        self._wishes += 1
        try:
            return await self._done(call)
        finally:
            self._wishes -= 1

    async def _done(self, call: Callable[[], Result]) -> Result:
        try:
            return await asyncio.shield(self._submitted(call))
        except (OSError, KawanUsahaError) as error:
            self._failed("collected-not-kept", _in_short(error))
            raise _not_now("The disk cannot be written now.") from error

    def _submitted(self, call: Callable[[], Result], size: int = 0) -> "asyncio.Future[Result]":
        waiting_bytes = self._waiting_bytes + size
        if self._waiting >= _MOST_WAITING or waiting_bytes > _MOST_WAITING_BYTES:
            raise _not_now("Too much is waiting to be written.")
        self._waiting += 1
        self._waiting_bytes = waiting_bytes
        work: Future[Result] = self._thread.submit(call)
        found = asyncio.wrap_future(work)
        found.add_done_callback(lambda _: self._less(size))
        return found

    def _less(self, size: int) -> None:
        self._waiting -= 1
        self._waiting_bytes -= size

    def _failed(self, kind: str, why: str) -> None:
        self._incident(kind)
        _LOG.error("%s: %s", kind, why)


def _offered(
    asked: ChatRequest,
    answer_id: str,
    trace: RequestTrace,
    answer: AssembledAnswer,
    *,
    client: str,
    begun: datetime,
) -> OfferedAnswer:
    turns = [message.turn() for message in asked.messages if not isinstance(message, str)]
    return OfferedAnswer(
        id=answer_id,
        client=client,
        user=asked.user or "",
        model=asked.model,
        build=trace.answered_by,
        messages=tuple(
            CollectedMessage.model_validate({"role": t.role, "content": t.text}) for t in turns
        ),
        answer=answer.text,
        begun=begun,
        cut=answer.finish_reason == "length",
    )


def _in_short(error: BaseException) -> str:
    """Return an error without quotations: only the system's and our own contain no text."""
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror}"
    return str(error) if isinstance(error, KawanUsahaError) else type(error).__name__


def _unknown() -> ApiError:
    return ApiError(
        FastChatCode.PARAM_OUT_OF_RANGE,
        "id: no answer of this user is stored under it.",
        param="id",
        status=404,
        error_code="not_found",
    )


def _rated_enough() -> ApiError:
    return ApiError(
        FastChatCode.PARAM_OUT_OF_RANGE,
        f"id: this answer has been rated {MOST_RATINGS} times; the last one counts.",
        param="id",
        status=409,
        error_code="rated_enough",
    )


def _not_now(why: str) -> ApiError:
    return ApiError(
        FastChatCode.INTERNAL_ERROR,
        f"It could not be stored. {why}",
        status=503,
        error_code="not_kept",
        retry_after_s=_RETRY_AFTER_S,
    )
