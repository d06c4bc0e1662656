"""The paths for reviewing what was collected, for keys of reviewers only.

The invariant: without a reviewer's key nobody learns whether anything was collected, neither on
this machine nor from another one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks.core.collected.review.queue import NewReview, Rank, decide, to_review
from tasks.core.collected.review.reading import Collected
from tasks.core.collected.storage.records import Review
from tasks.core.errors import DecidedMeanwhile, KawanUsahaError, LockBusy, NotCollected, UsageError
from tasks.core.serving.gateway.api_error import ApiError, FastChatCode, refused
from tasks.core.serving.gateway.body import Bodies
from tasks.core.serving.gateway.clients import Client, client_of
from tasks.core.serving.gateway.logs import LOG
from tasks.core.serving.gateway.request_body import read_query, read_request
from tasks.core.serving.gateway.requests import ReviewRequest, ReviewsQuery
from tasks.core.serving.gateway.settings import GatewaySettings

_AT_ONCE = 2
"""Each reads the files of all days, in threads that all requests share."""
_WAIT_S = 30.0
_COME_BACK_S = 30


class ReviewApi:
    """Lists what is to be reviewed, and records decisions."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._directory = settings.collected
        self._bodies = Bodies(settings)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def answered(self, request: Request) -> Response:
        """Handle a request by its method. Raises ApiError and ClientGone."""
        return await (self.decided if request.method == "POST" else self.listed)(request)

    async def listed(self, request: Request) -> Response:
        """Return the next answers to review: the worst rated first, then the newest."""
        _reviewer(request)
        asked = read_query(ReviewsQuery, request.query_params)
        with _explained():
            after = None if asked.after is None else Rank.read(asked.after)
            async with self._places:
                found = await asyncio.to_thread(
                    to_review,
                    self._kept(),
                    limit=asked.limit,
                    after=after,
                    which=asked.which,
                    wait_s=_WAIT_S,
                )
        return JSONResponse(
            {
                "object": "list",
                "data": [_item(each) for each in found.items],
                "waiting": found.waiting,
                "after": None if found.after is None else str(found.after),
            }
        )

    async def decided(self, request: Request) -> Response:
        """Record the decision of the key's owner, and return it."""
        reviewer = _reviewer(request)
        asked = read_request(ReviewRequest, await self._bodies.of(request))
        opinion = NewReview(asked.id, asked.decision, asked.answer, asked.seen)
        with _explained():
            async with self._places:
                review = await asyncio.to_thread(
                    decide, self._kept(), opinion, reviewer.name, wait_s=_WAIT_S
                )
        return JSONResponse({"id": review.id, **_review(review)})

    def _kept(self) -> Path:
        if self._directory is None:
            raise ApiError(
                FastChatCode.VALIDATION_TYPE_ERROR,
                "This deployment collects nothing; enable deploy.collect in its recipe.",
                status=404,
                error_code="not_collecting",
            )
        return self._directory


def _reviewer(request: Request) -> Client:
    client = client_of(request)
    client.require_reviewer()
    return client


@contextmanager
def _explained() -> Iterator[None]:
    """Turn exceptions into error responses."""
    try:
        yield
    except NotCollected as error:
        raise _told(error, 404, "not_found") from None
    except DecidedMeanwhile as error:
        raise _told(error, 409, "decided_meanwhile") from None
    except UsageError as error:
        raise refused("answer" if error.where else "after", error.what) from None
    except (LockBusy, OSError) as error:
        LOG.error("what was collected cannot be read or written: %s", error)
        raise ApiError(
            FastChatCode.INTERNAL_ERROR,
            "The collected answers cannot be read or written now.",
            status=503,
            error_code="not_available",
            retry_after_s=_COME_BACK_S,
        ) from None


def _told(error: KawanUsahaError, status: int, code: str) -> ApiError:
    message = " ".join(part for part in (error.what, error.found) if part)
    return ApiError(
        FastChatCode.VALIDATION_TYPE_ERROR, message, status=status, error_code=code, param="id"
    )


def _item(found: Collected) -> dict[str, Any]:
    answer, rating = found.answer, found.rating
    return {
        "id": answer.id,
        "time": answer.time.isoformat(),
        "model": answer.model,
        "build": answer.build,
        "messages": [message.model_dump() for message in answer.messages],
        "answer": answer.answer,
        "cut": answer.cut,
        "verdict": None if rating is None else rating.verdict,
        "correction": None if rating is None else rating.correction,
        "review": None if found.review is None else _review(found.review),
    }


def _review(review: Review) -> dict[str, Any]:
    return {
        "reviewer": review.reviewer,
        "time": review.time.isoformat(),
        "decision": review.decision,
        "answer": review.answer,
    }
