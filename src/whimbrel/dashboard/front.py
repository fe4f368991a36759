"""Middleware of the pages: `/` is the list of runs for a browser, and errors are pages, or the way to the login."""

import json
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.api.authorization import Caller
from whimbrel.api.http_errors import answer_unexpected_error
from whimbrel.api.session_cookies import SessionCookies
from whimbrel.dashboard.assets import PREFIX
from whimbrel.dashboard.rendering import HOME, PARTS, render_alone
from whimbrel.errors import WhimbrelError

LOGIN: Final = "/dashboard/login"
_REFUSED: Final = 400  # the first status of a refusal
_UNAUTHENTICATED: Final = 401
_UNAVAILABLE: Final = 503
_PASSING: Final = (429, _UNAVAILABLE)  # what a page may wait for


class Front:
    """Middleware, the first that a request meets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, asked = Headers(scope=scope), scope["path"]
        scope.setdefault("state", {})  # shared with all that come after, who note there who it is
        if asked == "/" and prefers_html(headers.get("accept", "")):
            scope = {**scope, "path": HOME, "raw_path": HOME.encode()}
        if not _is_page(scope["path"]) or PARTS in headers:
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            if answer.begun:
                raise
            failure = await answer_unexpected_error(Request(scope), error)
            await failure(scope, receive, answer)
        if answer.failure is not None:
            page = await _page(Request({**scope, "path": asked}), answer.status, answer.failure)
            answer.pass_on(page)
            if scope["method"] == "HEAD":
                page.body = b""
            await page(scope, receive, send)


def prefers_html(accept: str) -> bool:
    """Whether somebody who accepts these types would rather have a page than JSON: browsers would, and `*/*` says nothing."""
    qualities = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind in qualities:
            qualities[kind] = next((_quality(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
    return qualities["text/html"] > 0 and qualities["text/html"] >= qualities["application/json"]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _is_page(path: str) -> bool:
    return (path == "/dashboard" or path.startswith("/dashboard/")) and not path.startswith(f"{PREFIX}/")


class _Answer:
    """Passes an answer on, except a failure in JSON, which is kept to be shown as a page."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._pieces: list[bytes] = []
        self.status = 200
        self.begun = False
        self.failure: dict[str, Any] | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            kind = Headers(raw=list(message["headers"])).get("content-type", "")
            if message["status"] >= _REFUSED and kind.startswith("application/json"):
                self._start, self.status = message, message["status"]
                return
        elif self._start is not None:
            self._pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                self.failure = _failure(b"".join(self._pieces))
            return
        await self._send(message)

    def pass_on(self, page: Response) -> None:
        """Gives the page what the failure says to the client's program: when to try again, that the connection ends."""
        headers = self._start["headers"] if self._start is not None else []
        for name, value in Headers(raw=list(headers)).items():
            if name not in ("content-type", "content-length", "www-authenticate"):
                page.headers.setdefault(name, value)


def _failure(body: bytes) -> dict[str, Any]:
    found = json.loads(body or b"{}")  # without a body: to HEAD
    return found if isinstance(found, dict) else {}


async def _page(request: Request, status: int, failure: dict[str, Any]) -> Response:
    state = request.scope["state"]
    state.setdefault("caller", None)
    if state["caller"] is None and status != _UNAVAILABLE:  # who it is stands in MongoDB too
        state["caller"] = await _visitor(request)
    if status == _UNAUTHENTICATED and request.method in ("GET", "HEAD"):
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        wanted = "" if where == "/" else f"?next={quote(where, safe='')}"
        return RedirectResponse(f"{LOGIN}{wanted}", 303)
    word, said = str(failure.get("code", "")), str(failure.get("error", ""))
    if word == "not_found":  # no page of this address, and the API's routes are no help here
        said = "There is no such page. Look for a mistake in the address, or begin at the runs."
    # What a form has sent is sent again by a person only: asked for by its address, it would be another request.
    by_form = request.method not in ("GET", "HEAD")
    again = status in _PASSING and not by_form
    return render_alone(
        request, "error.html", status=status, code=status, said=said, again=again, by_form=by_form
    )


async def _visitor(request: Request) -> Caller | None:
    """Returns who it is where nobody had to know, as for an address without a page: then the page has its navigation."""
    sessions: SessionCookies | None = request.app.state.sessions
    secret = sessions.secret(request.scope) if sessions is not None else None
    if sessions is None or secret is None or not sessions.was_good(secret):
        return None
    try:
        return await sessions.caller(request.scope, secret)
    except WhimbrelError:
        return None
