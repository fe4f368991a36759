"""Sessions of browsers: who logs in by a token gets a cookie, which stands for the token until it is withdrawn.

A cookie is sent by any page that can make the browser do so. So it counts only where the browser, by SameSite and by what it says of
the page, confirms that a page of this server has sent the request.
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from whimbrel.api.authorization import RANKS, Caller, Token, source_of
from whimbrel.api.deployment import System
from whimbrel.api.watched_sessions import Serve, WatchedSessions
from whimbrel.ports import LoggedIn

SECONDS: Final = 12 * 3600.0  # that a session lasts after it was last used
LOOKUPS: Final = 8  # at a time: anybody can send a cookie
REMEMBERED: Final = 1000  # sessions that a process has seen
_BYTES: Final = 32  # of the secret, which nobody can guess
_LONGEST: Final = 64  # characters of what can be a secret
_SECURE, _PLAIN = "__Host-whimbrel", "whimbrel"


class SessionCookies:
    """The sessions of browsers. The ledger has only hashes: of the cookie's secret, and of the token."""

    def __init__(self, system: System, tokens: Sequence[Token]) -> None:
        self._system = system
        self.watched = WatchedSessions(self._holding)
        self._limiter = anyio.CapacityLimiter(LOOKUPS)
        self._seen: OrderedDict[str, None] = OrderedDict()  # hashes of secrets that were good here lately
        self._tokens: dict[str, Token] = {}
        for token in sorted(tokens, key=lambda token: RANKS[token.scope]):  # of equal ones the highest scope
            self._tokens[_fingerprint(token.digest.hex())] = token

    def secret(self, scope: Scope) -> str | None:
        """Returns the secret that a request has, if it may count: a request from another site's page has none."""
        headers = Headers(scope=scope)
        if any(
            site.strip().lower() not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")
        ):
            return None
        name, found = _name(scope), [cookie_parser(text) for text in headers.getlist("cookie")]
        secret = next((cookies[name] for cookies in found if name in cookies), "")
        return secret if secret and len(secret) <= _LONGEST else None

    async def caller(self, scope: Scope, secret: str) -> Caller | None:
        """Returns who has the session; None where it has ended. Raises ApiError (503) before MongoDB is reached, and WhimbrelError."""
        ledger = self._system.deployment.store.ledger
        logged_in = await anyio.to_thread.run_sync(
            lambda: ledger.sessions.use(key_of(secret), seconds=SECONDS), limiter=self._limiter
        )
        self._remember(key_of(secret), good=logged_in is not None)
        if logged_in is None:
            return None
        token = self._tokens.get(logged_in.token)
        if token is None:  # it was withdrawn: the session shall not come back with it
            await self.end(secret)
            return None
        return Caller(token.scope, token.name, source_of(scope), token.digest.hex())

    def was_good(self, secret: str) -> bool:
        """Whether this process has seen the session lately: who sends this does not guess. Asks nobody."""
        return key_of(secret) in self._seen

    def _holding(self, keys: Iterable[str]) -> set[str]:
        return self._system.deployment.store.ledger.sessions.holding(keys)

    def _remember(self, key: str, *, good: bool) -> None:
        self._seen.pop(key, None)
        if good:
            self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    async def begin(self, caller: Caller) -> str:
        """Begins a session, and returns its secret. Raises ApiError (503) before MongoDB is reached, and WhimbrelError."""
        store, secret = self._system.deployment.store, secrets.token_urlsafe(_BYTES)
        logged_in = LoggedIn(_fingerprint(caller.token), caller.scope)

        def begin() -> None:
            store.prepare()
            store.ledger.sessions.begin(key_of(secret), logged_in, who=caller.who, seconds=SECONDS)

        await anyio.to_thread.run_sync(begin, limiter=self._limiter)
        self._remember(key_of(secret), good=True)
        return secret

    async def end(self, secret: str) -> None:
        """Ends a session, for all instances. Raises as `begin` does."""
        ledger = self._system.deployment.store.ledger
        await anyio.to_thread.run_sync(ledger.sessions.end, key_of(secret), limiter=self._limiter)


async def while_session_holds(serve: Serve, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves a request for long: where it has come by a session, until that has ended. A token holds as long as this process."""
    key = scope["state"].get("session") if "state" in scope else None
    if key is None:
        await serve(scope, receive, send)
        return
    sessions: SessionCookies = scope["app"].state.sessions
    await sessions.watched.serve(key, serve, scope, receive, send)


def set_cookie(response: Response, scope: Scope, secret: str) -> None:
    """Gives a browser its secret; it forgets it when it is closed. Over https, no other host and no plain connection can set it."""
    response.set_cookie(
        _name(scope), secret, path="/", httponly=True, secure=_is_secure(scope), samesite="strict"
    )


def delete_cookie(response: Response, scope: Scope) -> None:
    response.delete_cookie(_name(scope), path="/", httponly=True, secure=_is_secure(scope), samesite="strict")


def says_own_page(scope: Scope) -> bool:
    """Whether the browser says that a page of this server has sent a request, by a header that no page can set.

    What the header says was checked before (`middleware.same_origin`); here it is enough that there is one.
    """
    headers = Headers(scope=scope)
    return "origin" in headers or headers.get("sec-fetch-site", "").strip().lower() == "same-origin"


def _name(scope: Scope) -> str:
    return _SECURE if _is_secure(scope) else _PLAIN


def _is_secure(scope: Scope) -> bool:
    return bool(scope["scheme"] == "https")


def key_of(secret: str) -> str:
    """Returns what a session is known by, from its secret."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _fingerprint(digest: str) -> str:
    """Returns what the ledger has of a token: not what the API compares tokens by."""
    return hashlib.sha256(f"session\0{digest}".encode()).hexdigest()
