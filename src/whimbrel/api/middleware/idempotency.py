"""Implements `Idempotency-Key`: a repeated request gets the first answer again, and is not carried out again."""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable

import anyio.to_thread
from fastapi import Request, Response

from whimbrel.api.authorization import Caller
from whimbrel.api.deployment import System
from whimbrel.api.http_errors import error_answer
from whimbrel.api.json_bodies import ParsedBody
from whimbrel.errors import BrokerUnavailable, WhimbrelError

KEY = "[!-~]{1,200}"
LARGEST_ANSWER = 256 * 1024  # bytes; those of requests that start work are small
# Refusals that change nothing: they come before anything is written, or after it was removed.
UNCHANGED = ("not_ready", BrokerUnavailable.code, "trial_timed_out", "trial_failed")
UNDECIDED = 500  # from this status on, it is unknown whether anything was done
# About the sender and how often it sends, not the request: with another token, or later, it is carried out.
ABOUT_THE_SENDER = (401, 403, 429)


async def idempotent(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Middleware for all POSTs from authenticated callers."""
    idempotency_key = request.headers.get("idempotency-key")
    system: System = request.app.state.system
    # No route, or one that needs no token, such as the login: there is nobody to remember an answer for.
    unknown = request.state.entry is None or request.state.caller is None
    if request.method != "POST" or idempotency_key is None or not system.ready or unknown:
        return await go_on(request)
    if not re.fullmatch(KEY, idempotency_key):
        return error_answer(
            422, "invalid", "Idempotency-Key: send 1 to 200 printable ASCII characters, without blanks."
        )
    if _is_dry_run(getattr(request.state, "parsed", None)):  # nothing is written, not even the key
        return await go_on(request)
    body = await request.body()
    caller: Caller = request.state.caller
    key = hashlib.sha256(f"{caller.token}\0{request.url.path}\0{idempotency_key}".encode()).hexdigest()
    fingerprint = hashlib.sha256(request.url.query.encode() + b"\0" + body).hexdigest()
    answers = system.deployment.store.ledger.answers
    try:
        before = await anyio.to_thread.run_sync(answers.begin, key, fingerprint)
    except WhimbrelError as error:
        return error_answer(503, error.code, system.why(error))
    if before is None:
        return await _carry_out(request, go_on, system, key)
    if before.fingerprint != fingerprint:
        return error_answer(
            422, "key_reused", "This Idempotency-Key came with another request. Send a new one."
        )
    if before.status is None:
        return error_answer(
            409,
            "in_progress",
            "This request is being carried out, or was cut off. GET /migrate shows what has begun.",
        )
    return Response(before.body, before.status, {"Idempotency-Replayed": "true"}, "application/json")


def _is_dry_run(parsed: ParsedBody | None) -> bool:
    return parsed is not None and isinstance(parsed.value, dict) and parsed.value.get("dryRun") is True


async def _carry_out(
    request: Request, go_on: Callable[[Request], Awaitable[Response]], system: System, key: str
) -> Response:
    answers = system.deployment.store.ledger.answers
    response = await go_on(request)
    body = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
    try:
        if response.status_code in ABOUT_THE_SENDER:
            await anyio.to_thread.run_sync(answers.forget, key)
        elif response.status_code < UNDECIDED and len(body) <= LARGEST_ANSWER:
            await anyio.to_thread.run_sync(answers.finish, key, response.status_code, body)
        elif _nothing_done(body):
            await anyio.to_thread.run_sync(answers.forget, key)
    except WhimbrelError:
        pass  # a repeated request will be told that the result is unknown
    return Response(body, response.status_code, dict(response.headers), response.media_type)


def _nothing_done(body: bytes) -> bool:
    """Whether a refusal changed nothing. A ledger that did not answer may still have carried out the command."""
    try:
        return json.loads(body)["code"] in UNCHANGED
    except (ValueError, KeyError, TypeError):
        return False
