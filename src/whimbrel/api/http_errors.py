"""Turns errors into answers: ours by their class, those of the framework by their status."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, takewhile
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from whimbrel import errors
from whimbrel.api import suggestions
from whimbrel.api.models.envelope import Failure, Fault
from whimbrel.domain.runs.freezes import FreezeRefused, FreezeUnknown

log = structlog.get_logger("whimbrel.api")

STATUSES: dict[type[errors.WhimbrelError], int] = {
    errors.SettingsInvalid: 422,
    errors.DefinitionInvalid: 422,
    errors.FilterRefused: 422,
    errors.MigrationUnknown: 404,
    errors.RunUnknown: 404,
    errors.GroupUnknown: 404,
    errors.DeliveryUnknown: 404,
    errors.SignalUnknown: 404,
    errors.CellUnknown: 404,
    errors.ThresholdsRefused: 409,
    errors.StagesRefused: 409,
    errors.CursorInvalid: 422,
    FreezeRefused: 409,
    FreezeUnknown: 404,
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
FILES = ("GET",)  # the methods of the files of /docs, which are not routes
# A type that the framework names behind a field which may have several, such as literal['off'] or constrained-int.
TYPE = re.compile(r"[a-z-]+\[.*\]|(constrained-)?(int|float|str|bool|none|list|dict)", re.DOTALL)
NAMED = 20  # invalid fields that an answer names; a request may have a hundred thousand
LONGEST = 200  # characters of a name, and of what is wrong with it
DOWN = 503
WORDS = {404: "not_found", 405: "method_not_allowed"}


class ApiError(errors.WhimbrelError):
    """A route's own refusal, with its status and code word."""

    def __init__(
        self,
        status: int,
        word: str,
        sentence: str,
        details: list[Fault] | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status, self.word, self.details, self.retry_after = status, word, details, retry_after


def error_answer(
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
    """Makes the application answer every error of a route in the envelope."""
    app.add_exception_handler(errors.WhimbrelError, _answer_own_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, answer_unexpected_error)


async def _answer_own_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, ApiError):
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return error_answer(error.status, error.word, str(error), details=error.details, headers=headers)
    exact = next((status for kind, status in STATUSES.items() if type(error) is kind), None)
    status = exact or next(
        (error_status for kind, error_status in STATUSES.items() if isinstance(error, kind)), 500
    )
    down = status == DOWN and isinstance(error, errors.WhimbrelError)
    sentence = request.app.state.system.why(error) if down else str(error)
    return error_answer(status, getattr(error, "code", "error"), sentence)


async def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    told: dict[str, list[str]] = {}
    for fault in error.errors():  # of a field that may be a number or a word there is one for each
        messages = told.setdefault(_field_path(fault), [])
        if len(told) <= NAMED:
            messages.append(suggestions.suggestion(request, fault))
    first = list(told.items())[:NAMED]
    faults = [Fault(field=field, message=", or ".join(dict.fromkeys(messages))) for field, messages in first]
    return invalid_fields(faults, len(told))


def invalid_fields(first: Sequence[Fault], count: int) -> JSONResponse:
    """Returns the answer to a request with `count` invalid fields, of which these are the first."""
    sentence, details = bad_fields(first, count)
    return error_answer(422, "invalid", f"These fields cannot be used: {sentence}", details=details)


def bad_fields(first: Sequence[Fault], count: int) -> tuple[str, list[Fault]]:
    """Returns the end of a sentence about `count` faults, and the faults that it names."""
    details = [Fault(field=fault.field[:LONGEST], message=fault.message[:LONGEST]) for fault in first[:NAMED]]
    sentence = "; ".join(f"{fault.field}: {fault.message}" for fault in details)
    sentence += f"; and {count - len(details):,} more" if count > len(details) else ""
    return sentence + ("" if sentence.endswith("?") else "."), details


def _field_path(fault: Mapping[str, Any]) -> str:
    """Returns where a fault is, without what the framework adds of the types that a field may have."""
    parts: Iterable[str] = map(str, fault["loc"])
    if fault["type"] != "extra_forbidden":  # of that the client has written the name
        parts = takewhile(lambda part: not TYPE.fullmatch(part), parts)
    return ".".join(part[:LONGEST] for part in parts) or "body"


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    sentence = str(error.detail)
    if error.status_code == 404:  # noqa: PLR2004
        sentence = f"There is no {request.url.path[:LONGEST]}. All routes: /docs."
    if error.status_code == 405:  # noqa: PLR2004
        return method_not_allowed(request.scope, _allowed(request) or FILES)
    word = WORDS.get(error.status_code, "error")
    return error_answer(error.status_code, word, sentence, headers=dict(error.headers or {}))


def method_not_allowed(scope: Scope, methods: Collection[str]) -> JSONResponse:
    """Returns the answer to a method that no route of the path has; `methods`: those that they have."""
    allowed = ((method, "HEAD") if method == "GET" else (method,) for method in METHODS if method in methods)
    sentence = f"{scope['method'][:LONGEST]} is not possible on {scope['path'][:LONGEST]}."
    return error_answer(405, WORDS[405], sentence, headers={"Allow": ", ".join(chain.from_iterable(allowed))})


def _allowed(request: Request) -> set[str]:
    """Returns the methods of all routes of this path: the framework knows only those of the first one."""
    routes: list[BaseRoute] = request.app.routes
    return {
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    }


async def answer_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    """Logs an error that nobody has thought of, and returns what its caller is told."""
    log.error("a route broke", path=request.url.path, exc_info=error)
    return error_answer(
        500,
        "internal",
        f"Whimbrel itself failed: {type(error).__name__}. The log says more; nothing is lost.",
    )
