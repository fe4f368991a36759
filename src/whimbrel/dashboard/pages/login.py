"""Login by a token, and logout. Both are plain forms, and need no JavaScript."""

from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from whimbrel.api.authorization import Caller, OpenToAll, TakesForm, identify, limit_key, source_of
from whimbrel.api.http_errors import ApiError
from whimbrel.api.middleware.rate_limits import RateLimit
from whimbrel.api.session_cookies import SessionCookies, delete_cookie, says_own_page, set_cookie
from whimbrel.dashboard.rendering import render_alone
from whimbrel.domain.text.printable import visible

router = APIRouter()
PATH: Final = "/dashboard/login"
HOME: Final = "/"
LONGEST: Final = 2000  # characters of an address to go to
_ONE_FIELD: Final = 10  # of a form that has one: more is no form of ours
Next = Annotated[str, Query(max_length=LONGEST)]


@router.get(PATH, dependencies=[OpenToAll])
async def show(request: Request, next: Next = HOME) -> Response:  # noqa: A002  as the address has it
    """The form. Who has a session already goes on, and so does everybody where no tokens are configured."""
    sessions = _sessions(request)
    secret = sessions.secret(request.scope) if sessions is not None else None
    if sessions is None:
        return _to(own_path(next))
    if secret is not None and await sessions.caller(request.scope, secret) is not None:
        return _to(own_path(next))
    return _form(request, next)


@router.post(PATH, dependencies=[OpenToAll, TakesForm])
async def log_in(request: Request, next: Next = HOME) -> Response:  # noqa: A002
    """Begins a session for who has a token. Failed attempts are limited, like requests with an unknown token."""
    sessions = _sessions(request)
    if sessions is None:
        return _to(own_path(next))
    source = source_of(request.scope)
    caller = identify(request.app.state.tokens, [f"Bearer {await _token(request)}"], source)
    if caller is None:
        refusals: RateLimit = request.app.state.refusals
        return refusals.refusal(limit_key(source), "refused requests") or _form(
            request, next, 401, "This is none of the tokens. Look for a missing or an extra character."
        )
    before = sessions.secret(request.scope)
    secret = await sessions.begin(caller)
    if before is not None:
        await sessions.end(before)
    _note_caller(request, caller)
    answer = _to(own_path(next))
    set_cookie(answer, request.scope, secret)
    return answer


@router.post("/dashboard/logout", dependencies=[OpenToAll, TakesForm])
async def log_out(request: Request) -> Response:
    """Ends the session, for all instances."""
    sessions = _sessions(request)
    if sessions is None:
        return _to(HOME)
    secret = sessions.secret(request.scope)
    if secret is not None:
        if not says_own_page(request.scope):
            raise ApiError(403, "foreign_origin", "Log out by the button of a page.")
        caller = await sessions.caller(request.scope, secret)
        await sessions.end(secret)
        if caller is not None:
            _note_caller(request, caller)
    answer = _to(PATH)
    delete_cookie(answer, request.scope)
    return answer


def own_path(address: str) -> str:
    """Returns an address, if it leads to a page of this server, wherever that is; else the front page."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return HOME
    # Browsers read a backslash as a slash, and leave out controls.
    own = address.startswith("/") and not address.startswith("//") and "\\" not in address
    if not own or parts.scheme or parts.netloc or visible(address, "") != address or not address.isascii():
        return HOME
    return HOME if parts.path.startswith((PATH, "/dashboard/logout")) else address


async def _token(request: Request) -> str:
    try:
        fields = parse_qs((await request.body()).decode(), max_num_fields=_ONE_FIELD)
    except ValueError:
        return ""
    return fields.get("token", [""])[0].strip()


def _form(request: Request, wanted: str, status: int = 200, said: str = "") -> Response:
    # SameSite=Strict keeps the cookie from whom another site's link has brought here. A page of our own may ask for the same with it.
    foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and status == 200  # noqa: PLR2004
    return render_alone(request, "login.html", status=status, next=own_path(wanted), said=said, again=foreign)


def _to(address: str) -> RedirectResponse:
    return RedirectResponse(address, 303)


def _note_caller(request: Request, caller: Caller) -> None:
    """Lets the audit know who it was."""
    request.scope["state"]["caller"] = caller


def _sessions(request: Request) -> SessionCookies | None:
    sessions: SessionCookies | None = request.app.state.sessions
    return sessions
