"""A limit on the requests that cost much: those that start work, and those that count documents."""

import hashlib
import time
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.types import Scope

from whimbrel.api.errors import answer
from whimbrel.errors import SettingsInvalid

EXPENSIVE = {
    "POST": ("/migrate", "/seed", "/queue/test"),
    "GET": ("/db/count", "/db/pending-count", "/db/success-count"),
    "DELETE": ("/queue/purge", "/seed"),
}


class Pace:
    """Middleware, for each process of its own: so many of these requests from one token, or one address."""

    def __init__(self, text: str) -> None:
        try:
            self._limit: RateLimitItem = parse(text)
        except ValueError as error:
            raise SettingsInvalid(f"API_RATE={text}: write it as 120/minute.") from error
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @staticmethod
    def concerns(scope: Scope) -> bool:
        return str(scope["path"]).startswith(EXPENSIVE.get(scope["method"], ()))

    async def __call__(self, request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization") or (request.client.host if request.client else "")
        who = hashlib.sha256(given.encode()).hexdigest()
        if self._limiter.hit(self._limit, who):
            return await go_on(request)
        free = self._limiter.get_window_stats(self._limit, who).reset_time
        wait = max(1, round(free - time.time()))
        return answer(
            429, "too_many", f"More than {self._limit} of such requests. Try again in {wait} seconds.",
            headers={"Retry-After": str(wait)},
        )  # fmt: skip
