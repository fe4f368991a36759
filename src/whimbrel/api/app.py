"""Builds the application: middleware, errors, routes, and the system that they work with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio.to_thread
from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.api import http_errors, openapi
from whimbrel.api.answer_cache import AnswerCache
from whimbrel.api.authorization import Token
from whimbrel.api.deployment import System
from whimbrel.api.event_streams import EventStreams
from whimbrel.api.middleware.admission_control import AdmissionControl
from whimbrel.api.middleware.audit import audited, changing
from whimbrel.api.middleware.authentication import Authentication
from whimbrel.api.middleware.head_requests import HeadRequests
from whimbrel.api.middleware.idempotency import idempotent
from whimbrel.api.middleware.rate_limits import RateLimits, expensive, refusals
from whimbrel.api.middleware.read_deadline import ReadDeadline
from whimbrel.api.middleware.readable_json import ReadableJson
from whimbrel.api.middleware.request_bodies import RequestBodies
from whimbrel.api.middleware.same_origin import SameOrigin, hosts_of
from whimbrel.api.middleware.selective import SelectiveMiddleware
from whimbrel.api.query_parameters import check_query
from whimbrel.api.route_requirements import RouteRequirements
from whimbrel.api.routes import (
    audit,
    bulk,
    database,
    definitions,
    ensuring,
    failure_examples,
    failures,
    freezing,
    health,
    health_signals,
    jobs,
    keyspace,
    maintenance,
    metrics,
    queue,
    root,
    runs,
    scheduler,
    seed,
    series,
    settings,
    slots,
    starting,
    streaming,
    undoing,
    verifying,
    webhooks,
)
from whimbrel.api.run_stream import RunLog

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ABOUT = """Migrates millions of MongoDB documents in batches, without a stop, through crashes.

Every answer has `success` and `timestamp`; a failure has `error`, a sentence that says what to do, and `code`, a word for machines.
"""


class Secure:
    """Middleware: adds the security headers to every answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


def create_app(system: System, tokens: tuple[Token, ...]) -> FastAPI:
    """Builds the API over a system, which starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        system.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(system.stop)

    app = FastAPIOffline(
        title="Whimbrel",
        version=version("whimbrel"),
        description=ABOUT,
        lifespan=lifespan,
        redirect_slashes=False,
        dependencies=[Depends(check_query)],
    )
    recent, settings_ = AnswerCache(), system.settings
    app.state.system, app.state.recent = system, recent
    app.state.refusals, app.state.sessions = refusals(), None  # sessions: begin where there is a dashboard
    app.state.streams = EventStreams(
        settings_.api_streams, settings_.api_stream_seconds, lambda: system.leaving, system.why
    )
    app.state.run_log = RunLog(app.state.streams)
    http_errors.install(app)
    app.add_middleware(SelectiveMiddleware, dispatch=recent.clear_after, concerns=changing)
    app.add_middleware(SelectiveMiddleware, dispatch=idempotent, concerns=changing)
    app.add_middleware(SelectiveMiddleware, dispatch=audited, concerns=changing)
    app.add_middleware(AdmissionControl)
    app.add_middleware(RequestBodies, patience=settings_.api_timeout)
    app.add_middleware(RateLimits, limit=expensive(settings_.api_rate))
    app.add_middleware(
        Authentication,
        tokens=tokens,
        surface=RouteRequirements(app.routes),
        public=settings_.api_public,
        refusals=app.state.refusals,
    )
    app.add_middleware(SameOrigin, hosts=hosts_of(settings_.api_hosts, settings_.host, tokens))
    app.add_middleware(ReadableJson)
    app.add_middleware(Secure)
    app.add_middleware(ReadDeadline, within=system.within)
    app.add_middleware(HeadRequests)  # a request meets the last one added first
    for module in (
        root,
        health,
        health_signals,
        metrics,
        starting,
        verifying,
        ensuring,
        runs,
        jobs,
        failures,
        failure_examples,
        settings,
        undoing,
        bulk,
        maintenance,
        queue,
        database,
        seed,
        scheduler,
        freezing,
        webhooks,
        audit,
        streaming,
        series,
        keyspace,
        slots,
        definitions,
    ):
        app.include_router(module.router)
    openapi.install(app)
    return app
