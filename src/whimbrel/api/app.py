"""The application: middleware, errors, routes, and the system that they work with."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio.to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline

from whimbrel.api import document, errors
from whimbrel.api.access import Token
from whimbrel.api.audit import audited
from whimbrel.api.bodies import Bodies
from whimbrel.api.once import once
from whimbrel.api.pace import Pace
from whimbrel.api.queries import known
from whimbrel.api.routes import (
    bulk,
    database,
    failures,
    health,
    maintenance,
    metrics,
    queue,
    runs,
    scheduler,
    seed,
    settings,
    starting,
    undoing,
    verifying,
)
from whimbrel.api.system import System

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
ABOUT = """Migrates millions of MongoDB documents in batches, without a stop, through crashes.

Every answer has `success` and `timestamp`; a failure has `error`, a sentence that says what to do, and `code`, a word for machines.
"""


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
    app.state.system, app.state.tokens = system, tokens
    errors.install(app)
    app.middleware("http")(once)
    app.middleware("http")(audited)
    app.middleware("http")(Pace(system.settings.api_rate))
    app.add_middleware(Bodies)  # the last that is added is the first that a request meets
    app.middleware("http")(_secure)
    for module in (
        health,
        metrics,
        starting,
        verifying,
        runs,
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


async def _secure(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    found = await go_on(request)
    for name, value in SECURITY.items():
        found.headers.setdefault(name, value)
    return found
