"""Caches answers that clients poll: each is computed at most a few times a second, however many ask.

A hundred dashboards that poll a run cost the database as much as one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request, Response

from whimbrel.api.entity_tags import tag_of, tagged
from whimbrel.api.models.envelope import Answer

OK = 200
FRESH = 0.5  # seconds for which an answer is reused
PATIENCE = 5.0  # seconds that an answer may take before another request tries

Work = Callable[[], tuple[int, Answer]]


@dataclass(slots=True)
class _CachedAnswer:
    """One answer, under way or done: its status and body, and until when it is reused."""

    task: "asyncio.Task[tuple[int, bytes, str]]"
    until: float

    @property
    def fresh(self) -> bool:
        return time.monotonic() < self.until


class AnswerCache:
    """The last answers by key. Used only in the event loop's thread."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, _CachedAnswer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    async def answer(self, key: Hashable, work: Work) -> Response:
        """Returns the answer for a key: a recent one, or that of `work`, which returns a status and an answer, in a thread.

        Raises what `work` raises, for all requests that waited for it, and for no others.
        """
        cached = self._answers.get(key)
        if cached is None or not cached.fresh:
            cached = self._begin(key, work)
        # Shielded, as other requests may wait for it when this one is cancelled.
        status, body, tag = await asyncio.shield(cached.task)
        return Response(
            body, status, media_type="application/json", headers={"ETag": tag} if status == OK else None
        )

    def _begin(self, key: Hashable, work: Work) -> _CachedAnswer:
        self._answers = {answer_key: answer for answer_key, answer in self._answers.items() if answer.fresh}
        new_answer = _CachedAnswer(asyncio.create_task(_computed(work)), until=time.monotonic() + PATIENCE)
        self._answers[key] = new_answer

        def done(task: "asyncio.Task[tuple[int, bytes, str]]") -> None:
            new_answer.until = time.monotonic() + FRESH
            if (task.cancelled() or task.exception()) and self._answers.get(key) is new_answer:
                del self._answers[key]

        new_answer.task.add_done_callback(done)
        return new_answer

    async def clear_after(
        self, request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Middleware for requests that may change something: clears the cache, so that the caller sees the change."""
        try:
            return await go_on(request)
        finally:
            self._answers.clear()


async def _computed(work: Work) -> tuple[int, bytes, str]:
    status, answer = await anyio.to_thread.run_sync(work)
    return status, answer.model_dump_json(by_alias=True).encode(), tag_of(answer)


@dataclass(frozen=True, slots=True)
class CachedAnswers:
    """The answers as one request may have them: with their entity tags, and without a body where the client has it already."""

    cache: AnswerCache
    request: Request

    async def answer(self, key: Hashable, work: Work) -> Response:
        """See `AnswerCache.answer`."""
        return tagged(self.request, await self.cache.answer(key, work))


async def _cached_answers(request: Request) -> CachedAnswers:
    return CachedAnswers(request.app.state.recent, request)


ThisAnswerCache = Annotated[CachedAnswers, Depends(_cached_answers)]
