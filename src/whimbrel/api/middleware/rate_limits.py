"""Limits how often a client may send expensive or refused requests."""

import time

from fastapi.responses import JSONResponse
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from whimbrel.api.authorization import Caller, limit_key, source_of
from whimbrel.api.http_errors import error_answer
from whimbrel.api.middleware.early_refusal import refuse_early
from whimbrel.errors import SettingsInvalid

EXPENSIVE = {
    "POST": ("/migrate", "/seed", "/queue/test", "/webhooks/test"),
    "GET": (
        "/db/count",
        "/db/pending-count",
        "/db/success-count",
        "/migrate/rollback",
        "/migrate/cleanup",
        "/dashboard/start",
    ),
    "DELETE": ("/queue/purge", "/seed"),
}
PLANS = ("/rollback", "/cleanup")  # pages of a run that look at its documents
REFUSALS = "600/minute"  # of one client without a sufficient token; far more than by mistake
MOST = 1000  # addresses that are counted one by one; all others share one count, so that memory is limited


class RateLimit:
    """Limits a kind of request for each client. Each process counts for itself."""

    def __init__(self, rate: RateLimitItem, limiter: RateLimiter) -> None:
        self._rate, self._limiter = rate, limiter
        self._known: dict[str, float] = {}  # the clients that it counts, and until when

    def refusal(self, who: str, what: str) -> JSONResponse | None:
        """Counts a request, and returns the refusal if it is one too many. `what`: what is limited, in words."""
        key = self._key(who)
        if self._limiter.hit(self._rate, key):
            return None
        free = self._limiter.get_window_stats(self._rate, key).reset_time
        wait = max(1, round(free - time.time()))
        return error_answer(
            429, "too_many", f"More than {self._rate} of {what}. Try again in {wait} seconds.",
            headers={"Retry-After": str(wait)},
        )  # fmt: skip

    def is_used_up(self, who: str) -> bool:
        """Whether the next request would be one too many. Counts nothing."""
        return not self._limiter.test(self._rate, self._key(who))

    def __len__(self) -> int:
        return len(self._known)

    def _key(self, who: str) -> str:
        now = time.monotonic()
        if who not in self._known and len(self._known) >= MOST:
            self._known = {client: until for client, until in self._known.items() if until > now}
            if len(self._known) >= MOST:
                return "others"
        self._known[who] = now + 2 * self._rate.get_expiry()
        return f"one {who}"


def refusals() -> RateLimit:
    # A moving window would store the time of each request: here two numbers are enough.
    return RateLimit(parse(REFUSALS), SlidingWindowCounterRateLimiter(MemoryStorage()))


def expensive(text: str) -> RateLimit:
    """Reads the limit of expensive requests. Raises SettingsInvalid."""
    try:
        rate = parse(text)
    except ValueError as error:
        raise SettingsInvalid(f"API_RATE={text}: write it as 120/minute.") from error
    return RateLimit(rate, MovingWindowRateLimiter(MemoryStorage()))


def costly(scope: Scope) -> bool:
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    path: str = scope["path"]
    return path.startswith(EXPENSIVE.get(method, ())) or (
        path.startswith("/dashboard/runs/") and path.endswith(PLANS)
    )


class RateLimits:
    """Middleware: limits expensive requests by token, or, where no tokens are configured, by address."""

    def __init__(self, app: ASGIApp, limit: RateLimit) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and costly(scope):
            caller: Caller | None = scope["state"].get("caller")
            who = (caller and caller.token) or limit_key(source_of(scope))
            refusal = self._limit.refusal(who, "such requests")
            if refusal is not None:
                await refuse_early(refusal, scope, receive, send)
                return
        await self._app(scope, receive, send)
