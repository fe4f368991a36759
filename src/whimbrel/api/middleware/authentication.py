"""Authenticates and authorizes a request before its body is read or anything is stored."""

from collections.abc import Sequence
from typing import Final, Literal

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from whimbrel.api.authorization import Caller, ScopeName, Token, identify, limit_key, source_of
from whimbrel.api.http_errors import error_answer, method_not_allowed
from whimbrel.api.middleware.audit import note
from whimbrel.api.middleware.early_refusal import refuse_early
from whimbrel.api.middleware.rate_limits import RateLimit
from whimbrel.api.middleware.request_bodies import WITH_BODY
from whimbrel.api.route_requirements import RouteRequirements

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
        refusal = self._refusal(scope, caller, needed_scope, authorization)
        if refusal is not None and entry is None and (possible := self._surface.methods(scope)):
            refusal = method_not_allowed(scope, possible)  # for any caller: there is nothing to protect
        if refusal is None:
            await self._app(scope, receive, send)
            return
        if caller is not None and refusal.status_code == 403 and scope["method"] in WITH_BODY:  # noqa: PLR2004
            await note(scope, refusal.status_code)
        await refuse_early(refusal, scope, receive, send)

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
