"""Errors become answers: ours by their class, those of the framework by their status."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from whimbrel import errors
from whimbrel.api import hints
from whimbrel.api.answers import Failure, Fault

log = structlog.get_logger("whimbrel.api")

STATUSES: dict[type[errors.WhimbrelError], int] = {
    errors.SettingsInvalid: 422,
    errors.DefinitionInvalid: 422,
    errors.FilterRefused: 422,
    errors.MigrationUnknown: 404,
    errors.RunUnknown: 404,
    errors.GroupUnknown: 404,
    errors.CursorInvalid: 422,
    errors.CollectionUnsuitable: 409,
    errors.StateForbids: 409,
    errors.WarningsRefused: 409,
    errors.DatabaseUnreachable: 503,
    errors.DatabaseRefused: 503,
    errors.EmbeddedUnavailable: 503,
    errors.Systemic: 503,
    errors.Refused: 422,
    errors.CollectionReplaced: 409,
    errors.Transient: 503,
    errors.BrokerRefused: 503,
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
DOWN = 503
WORDS = {404: "not_found", 405: "method_not_allowed"}


class Declined(errors.WhimbrelError):
    """A route's own refusal, with the status and the word for it."""

    def __init__(self, status: int, word: str, sentence: str, details: list[Fault] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.word, self.details = status, word, details


def answer(
    status: int,
    word: str,
    sentence: str,
    *,
    details: list[Fault] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    body = Failure(error=sentence, code=word, details=details).model_dump(by_alias=True, exclude_none=True)
    return JSONResponse(body, status, headers=headers)


def install(app: FastAPI) -> None:
    """Whatever goes wrong in a route is answered in the envelope."""
    app.add_exception_handler(errors.WhimbrelError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Declined):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None  # noqa: PLR2004
        return answer(error.status, error.word, str(error), details=error.details, headers=headers)
    found = next((status for kind, status in STATUSES.items() if type(error) is kind), None)
    status = found or next((each for kind, each in STATUSES.items() if isinstance(error, kind)), 500)
    down = status == DOWN and isinstance(error, errors.WhimbrelError)
    sentence = request.app.state.system.why(error) if down else str(error)
    return answer(status, getattr(error, "code", "error"), sentence)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    details = [Fault(field=_where(each["loc"]), message=hints.said(request, each)) for each in error.errors()]
    sentence = "; ".join(f"{each.field}: {each.message}" for each in details)
    end = "" if sentence.endswith("?") else "."
    return answer(422, "invalid", f"These fields cannot be used: {sentence}{end}", details=details)


def _where(parts: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in parts) or "body"


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    sentence = str(error.detail)
    if error.status_code == 404:  # noqa: PLR2004
        sentence = f"There is no {request.url.path}. All routes: /docs."
    headers = dict(error.headers or {})
    if error.status_code == 405:  # noqa: PLR2004
        sentence = f"{request.method} is not possible on {request.url.path}."
        headers["Allow"] = ", ".join(_allowed(request))
    word = WORDS.get(error.status_code, "error")
    return answer(error.status_code, word, sentence, headers=headers)


def _allowed(request: Request) -> list[str]:
    """The methods of all routes of this path: the framework knows only those of the first one."""
    routes: list[BaseRoute] = request.app.routes
    found = [
        method
        for method in METHODS
        if any(each.matches({**request.scope, "method": method})[0] is Match.FULL for each in routes)
    ]
    return [each for method in found for each in ((method, "HEAD") if method == "GET" else (method,))]


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("a route broke", path=request.url.path, exc_info=error)
    return answer(
        500,
        "internal",
        f"Whimbrel itself failed: {type(error).__name__}. The log says more; nothing is lost.",
    )
