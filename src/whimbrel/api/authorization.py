"""Authorizes callers by bearer tokens of three scopes, which are kept as hashes only."""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from whimbrel.errors import SettingsInvalid

ScopeName = Literal["read", "operate", "admin"]
RANKS: Mapping[str, int] = {"read": 0, "operate": 1, "admin": 2}
SHORTEST = 16  # characters of a token
LONGEST = 100  # characters of an address: a proxy passes on any text that it was sent

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
    """The sender of a request. `token`: the digest of the token, which tells holders apart."""

    scope: ScopeName
    name: str
    source: str
    token: str = ""

    @property
    def who(self) -> str:
        return f"api:{self.name}@{self.source}"

    def may(self, wanted: ScopeName) -> bool:
        return RANKS[self.scope] >= RANKS[wanted]


def read_tokens(text: str) -> tuple[Token, ...]:
    """Reads `API_TOKENS`: `scope:token` or `name=scope:token`, comma-separated. Raises SettingsInvalid."""
    tokens = []
    for number, part in enumerate(filter(None, (entry.strip() for entry in text.split(","))), 1):
        front, colon, secret = part.partition(":")
        name, equals, scope = front.rpartition("=")
        if not colon or scope not in RANKS or len(secret) < SHORTEST or (equals and not name):
            raise SettingsInvalid(
                f"API_TOKENS: entry {number} cannot be used. Write scope:token or name=scope:token, the scope being read, operate or admin, "
                f"the token at least {SHORTEST} characters; with commas between entries."
            )
        digest = hashlib.sha256(secret.encode()).digest()
        tokens.append(Token(scope, name or f"{scope}-{number}", digest))  # type: ignore[arg-type]
    return tuple(tokens)


def source_of(scope: Scope) -> str:
    """Returns the address that a request came from, or that a trusted proxy names."""
    client = scope.get("client")
    return str(client[0])[:LONGEST] if client else "?"


def limit_key(source: str) -> str:
    """Returns the key that limits count by: an IPv4 address, or an IPv6 network, whose addresses all belong to one client."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def identify(tokens: Sequence[Token], authorization: Sequence[str], source: str) -> Caller | None:
    """Returns the caller with these `Authorization` headers, of which there may be one. None: the token is not ours."""
    if not tokens:
        return Caller("admin", "anybody", source)
    if len(authorization) != 1:
        return None
    kind, _, secret = authorization[0].partition(" ")
    if kind.lower() != "bearer":
        return None
    digest = hashlib.sha256(secret.strip().encode()).digest()
    # Compares all tokens, so that the time does not show which one matches.
    matching = [token for token in tokens if hmac.compare_digest(token.digest, digest)]
    if not matching:
        return None
    best = max(matching, key=lambda token: RANKS[token.scope])
    return Caller(best.scope, best.name, source, digest.hex())


class RequiredScope:
    """A dependency that gives the caller. The token was checked before the request's body was read (`authentication`)."""

    def __init__(self, scope: ScopeName) -> None:
        self.scope = scope

    async def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Caller:
        caller: Caller = request.state.caller
        return caller


Reader = Annotated[Caller, Depends(RequiredScope("read"))]
Operator = Annotated[Caller, Depends(RequiredScope("operate"))]
Admin = Annotated[Caller, Depends(RequiredScope("admin"))]


async def _open_to_all() -> None:
    """Marks a route that needs no token whatever `API_PUBLIC` says, such as the login."""


async def _form() -> None:
    """Marks a route that browsers send a form to, without JavaScript."""


OpenToAll = Depends(_open_to_all)
TakesForm = Depends(_form)


def is_open_to_all(call: object) -> bool:
    """Whether a dependency is that mark."""
    return call is _open_to_all


def is_form(call: object) -> bool:
    """Whether a dependency marks a route that takes a form."""
    return call is _form
