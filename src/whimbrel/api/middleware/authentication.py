"""Authenticates and authorizes a request before its body is read or anything is stored: by a token, or a browser by its session."""

from collections.abc import Sequence
from typing import Final, Literal

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from whimbrel.api.authorization import Caller, ScopeName, Token, identify, limit_key, source_of
from whimbrel.api.deployment import System
from whimbrel.api.http_errors import ApiError, error_answer, method_not_allowed
from whimbrel.api.middleware.audit import note
from whimbrel.api.middleware.early_refusal import refuse_early
from whimbrel.api.middleware.rate_limits import RateLimit
from whimbrel.api.middleware.request_bodies import WITH_BODY
from whimbrel.api.route_requirements import RouteRequirements
from whimbrel.api.session_cookies import SessionCookies, key_of, says_own_page
from whimbrel.errors import WhimbrelError

Public = Literal["all", "probes", "none"]
PROBES: Final = frozenset({"/health/live", "/health/ready"})


class Authentication:
    """Middleware. `public`: which routes without a required scope are open; the others then need a token of any scope."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Sequence[Token],
        surface: RouteRequirements,
        public: Public,
        refusals: RateLimit,
    ) -> None:
        self._app, self._tokens, self._surface = app, tokens, surface
        self._public, self._refusals = public, refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["entry"] = entry = self._surface.at(scope)
        authorization = Headers(scope=scope).getlist("authorization")
        state["caller"] = caller = identify(self._tokens, authorization, source_of(scope))
        opened = entry is not None and entry.open
        needed_scope = None if opened else self._needed_scope(scope, entry.needs if entry else None)
        refusal: JSONResponse | None = None
        if caller is None and needed_scope is not None and not authorization:
            caller, refusal = await self._by_session(scope)
            state["caller"] = caller
        refusal = refusal or self._refusal(scope, caller, needed_scope, authorization)
        if refusal is not None and entry is None and (possible := self._surface.methods(scope)):
            refusal = method_not_allowed(scope, possible)  # for any caller: there is nothing to protect
        if refusal is None:
            await self._app(scope, receive, send)
            return
        if caller is not None and refusal.status_code == 403 and scope["method"] in WITH_BODY:  # noqa: PLR2004
            await note(scope, refusal.status_code)
        await refuse_early(refusal, scope, receive, send)

    async def _by_session(self, scope: Scope) -> tuple[Caller | None, JSONResponse | None]:
        """Returns whose session the request's cookie is, or why nothing can be said. Both are None where there is no session."""
        sessions: SessionCookies | None = scope["app"].state.sessions
        secret = sessions.secret(scope) if sessions is not None else None
        if sessions is None or secret is None:
            return None, None
        if not sessions.was_good(secret) and self._refusals.is_used_up(limit_key(source_of(scope))):
            return None, None  # the ledger is not asked for those who guess; the refusal says so
        try:
            caller = await sessions.caller(scope, secret)
        except ApiError as error:  # MongoDB was not reached yet
            hidden = self._public == "none"  # who has any cookie at all is not known to be somebody
            return None, error_answer(error.status, error.word, "It is not ready." if hidden else str(error))
        except WhimbrelError as error:
            system: System = scope["app"].state.system
            return None, error_answer(503, error.code, system.why(error))
        if caller is not None and scope["method"] in WITH_BODY and not says_own_page(scope):
            sentence = "A request with a session that changes something must have the header Origin or Sec-Fetch-Site. Programs send a token instead."
            return None, error_answer(403, "foreign_origin", sentence)
        if caller is not None:
            scope["state"]["session"] = key_of(secret)  # for what lasts longer than a moment
        return caller, None

    def _needed_scope(self, scope: Scope, needs: ScopeName | None) -> ScopeName | None:
        """Returns the scope that a request needs, if any. A request that may change something needs a token, whatever its path."""
        if needs is not None:
            return needs
        if scope["method"] in WITH_BODY or self._public == "none":
            return "read"
        return None if self._public == "all" or scope["path"] in PROBES else "read"

    def _refusal(
        self,
        scope: Scope,
        caller: Caller | None,
        needed_scope: ScopeName | None,
        authorization: Sequence[str],
    ) -> JSONResponse | None:
        if needed_scope is None or (caller is not None and caller.may(needed_scope)):
            return None
        who = caller.token if caller is not None else limit_key(source_of(scope))
        too_many = self._refusals.refusal(who, "refused requests")
        if too_many is not None:
            return too_many
        if caller is not None:
            sentence = f"This needs a token of the scope {needed_scope}; yours is of {caller.scope}."
            return error_answer(403, "forbidden", sentence)
        sentence = (
            "The token is unknown. Send one of API_TOKENS."
            if authorization
            else "Send a token: Authorization: Bearer TOKEN."
        )
        return error_answer(401, "unauthenticated", sentence, headers={"WWW-Authenticate": "Bearer"})
