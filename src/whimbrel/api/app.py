"""The application: middleware, errors, routes, and the system that they work with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio.to_thread
from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.api import document, errors
from whimbrel.api.access import Token
from whimbrel.api.admission import Admission
from whimbrel.api.audit import audited, changing
from whimbrel.api.authentication import Authentication
from whimbrel.api.bodies import Bodies
from whimbrel.api.concerned import Concerned
from whimbrel.api.heads import Heads
from whimbrel.api.legible import Legible
from whimbrel.api.once import once
from whimbrel.api.origins import Origins, hosts_of
from whimbrel.api.pace import Pace, expensive, refusals
from whimbrel.api.queries import known
from whimbrel.api.recent import Recent
from whimbrel.api.routes import (
    bulk,
    database,
    failures,
    health,
    jobs,
    maintenance,
    metrics,
    queue,
    root,
    runs,
    scheduler,
    seed,
    settings,
    starting,
    undoing,
    verifying,
)
from whimbrel.api.streams import Streams
from whimbrel.api.surface import Surface
from whimbrel.api.system import System

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
    """Middleware: the security headers of every answer that has none of its own."""

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
    """The API over a system, which starts and stops with it."""

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
        dependencies=[Depends(known)],
    )
    recent, settings_ = Recent(), system.settings
    app.state.system, app.state.recent = system, recent
    app.state.streams = Streams(
        settings_.api_streams, settings_.api_stream_seconds, lambda: system.leaving, system.why
    )
    errors.install(app)
    app.add_middleware(Concerned, dispatch=recent.forgetting, concerns=changing)
    app.add_middleware(Concerned, dispatch=once, concerns=changing)
    app.add_middleware(Concerned, dispatch=audited, concerns=changing)
    app.add_middleware(Admission)
    app.add_middleware(Bodies, patience=settings_.api_timeout)
    app.add_middleware(Pace, limit=expensive(settings_.api_rate))
    app.add_middleware(
        Authentication,
        tokens=tokens,
        surface=Surface(app.routes),
        public=settings_.api_public,
        refusals=refusals(),
    )
    app.add_middleware(Origins, hosts=hosts_of(settings_.api_hosts, settings_.host, tokens))
    app.add_middleware(Legible)
    app.add_middleware(Secure)
    app.add_middleware(Heads)  # the last that is added is the first that a request meets
    for module in (
        root,
        health,
        metrics,
        starting,
        verifying,
        runs,
        jobs,
        failures,
        settings,
        undoing,
        bulk,
        maintenance,
        queue,
        database,
        seed,
        scheduler,
    ):
        app.include_router(module.router)
    document.install(app)
    return app
