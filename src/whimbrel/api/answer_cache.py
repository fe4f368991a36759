"""What is asked for again and again is worked out a few times a second, however many ask: those between get the last answer.

A hundred dashboards that poll a run cost the database as much as one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request, Response

from whimbrel.api.models.envelope import Answer

FRESH = 0.5  # seconds that an answer is given again
PATIENCE = 5.0  # seconds that an answer may be under way before somebody else tries

Work = Callable[[], tuple[int, Answer]]


@dataclass(slots=True)
class _Worked:
    """One answer, under way or done: its status and body, and until when it is given to others."""

    task: "asyncio.Task[tuple[int, bytes]]"
    until: float

    @property
    def fresh(self) -> bool:
        return time.monotonic() < self.until


class AnswerCache:
    """The last answers, each by its key. All of it happens in the event loop's thread."""

    def __init__(self) -> None:
        self._found: dict[Hashable, _Worked] = {}

    def __len__(self) -> int:
        return len(self._found)

    async def answer(self, key: Hashable, work: Work) -> Response:
        """The answer of this key: a recent one, or that of `work`, which gives a status and an answer, in a thread.

        Raises what `work` raises, to everybody who waited for it, and to nobody else.
        """
        found = self._found.get(key)
        if found is None or not found.fresh:
            found = self._begin(key, work)
        status, body = await asyncio.shield(found.task)  # others wait for it when this one is gone
        return Response(body, status, media_type="application/json")

    def _begin(self, key: Hashable, work: Work) -> _Worked:
        self._found = {name: each for name, each in self._found.items() if each.fresh}
        begun = _Worked(asyncio.create_task(_worked_out(work)), until=time.monotonic() + PATIENCE)
        self._found[key] = begun

        def done(task: "asyncio.Task[tuple[int, bytes]]") -> None:
            begun.until = time.monotonic() + FRESH
            if (task.cancelled() or task.exception()) and self._found.get(key) is begun:
                del self._found[key]

        begun.task.add_done_callback(done)
        return begun

    async def forgetting(self, request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        """Middleware of requests that may change something: whoever changed it sees it changed."""
        try:
            return await go_on(request)
        finally:
            self._found.clear()


async def _worked_out(work: Work) -> tuple[int, bytes]:
    status, answer = await anyio.to_thread.run_sync(work)
    return status, answer.model_dump_json(by_alias=True).encode()


async def _recent(request: Request) -> AnswerCache:
    found: AnswerCache = request.app.state.recent
    return found


ThisRecent = Annotated[AnswerCache, Depends(_recent)]
