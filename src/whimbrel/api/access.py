"""Who may do what: bearer tokens of three scopes, kept as hashes only."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from whimbrel.api.errors import Declined
from whimbrel.errors import SettingsInvalid

ScopeName = Literal["read", "operate", "admin"]
RANKS: Mapping[str, int] = {"read": 0, "operate": 1, "admin": 2}
SHORTEST = 16  # characters of a token

_bearer = HTTPBearer(
    auto_error=False, description="A token of API_TOKENS. Without configured tokens, none is needed."
)


@dataclass(frozen=True, slots=True)
class Token:
    scope: ScopeName
    name: str  # for the audit: never the token itself
    digest: bytes


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request."""

    scope: ScopeName
    name: str
    source: str

    @property
    def who(self) -> str:
        return f"api:{self.name}@{self.source}"


def read_tokens(text: str) -> tuple[Token, ...]:
    """`API_TOKENS`: `scope:token` or `name=scope:token`, with commas between. Raises SettingsInvalid."""
    found = []
    for number, part in enumerate(filter(None, (each.strip() for each in text.split(","))), 1):
        front, colon, secret = part.partition(":")
        name, equals, scope = front.rpartition("=")
        if not colon or scope not in RANKS or len(secret) < SHORTEST or (equals and not name):
            raise SettingsInvalid(
                f"API_TOKENS: entry {number} cannot be used. Write scope:token or name=scope:token, the scope being read, operate or admin, "
                f"the token at least {SHORTEST} characters; with commas between entries."
            )
        digest = hashlib.sha256(secret.encode()).digest()
        found.append(Token(scope, name or f"{scope}-{number}", digest))  # type: ignore[arg-type]
    return tuple(found)


async def _caller(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Caller:
    found = _who(request, given)
    request.state.caller = found  # for the audit
    return found


def _who(request: Request, given: HTTPAuthorizationCredentials | None) -> Caller:
    source = request.client.host if request.client else "?"
    tokens: tuple[Token, ...] = request.app.state.tokens
    if not tokens:
        return Caller("admin", "anybody", source)
    if given is None:
        raise Declined(401, "unauthenticated", "Send a token: Authorization: Bearer TOKEN.")
    digest = hashlib.sha256(given.credentials.encode()).digest()
    matching = [
        token for token in tokens if hmac.compare_digest(token.digest, digest)
    ]  # all of them, whatever matches
    if not matching:
        raise Declined(401, "unauthenticated", "The token is unknown. Send one of API_TOKENS.")
    best = max(matching, key=lambda token: RANKS[token.scope])
    return Caller(best.scope, best.name, source)


def needs(scope: ScopeName) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller, if the token allows it."""

    async def allowed(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        if RANKS[caller.scope] < RANKS[scope]:
            raise Declined(
                403, "forbidden", f"This needs a token of the scope {scope}; yours is of {caller.scope}."
            )
        return caller

    return allowed


Reader = Annotated[Caller, Depends(needs("read"))]
Operator = Annotated[Caller, Depends(needs("operate"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
