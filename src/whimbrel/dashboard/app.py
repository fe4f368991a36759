"""Adds the dashboard to the application of the REST API."""

from collections.abc import Sequence
from typing import Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from whimbrel.api.authorization import Token
from whimbrel.api.deployment import System
from whimbrel.api.session_cookies import SessionCookies
from whimbrel.dashboard.cluster import ClusterLine
from whimbrel.dashboard.front import Front
from whimbrel.dashboard.pages import (
    audit,
    batch,
    causes,
    frame,
    health,
    login,
    own_files,
    queues,
    report,
    run,
    runs,
    schedules,
    start,
    undo,
    workers,
)
from whimbrel.dashboard.rendering import Frame, Link

PAGES: Final = (
    own_files,
    frame,
    login,
    runs,
    start,
    undo,
    schedules,
    health,
    workers,
    queues,
    audit,
    run,
    causes,
    batch,
    report,
)
# In this order at the head of every page, those that there are.
NAVIGATION: Final = (
    Link("Runs", "/"),
    Link("Start", "/dashboard/start"),
    Link("Schedules", "/dashboard/schedules"),
    Link("Health", "/dashboard/health"),
    Link("Workers", "/dashboard/workers"),
    Link("Queues", "/dashboard/queues"),
    Link("Audit", "/dashboard/audit"),
)


def install(app: FastAPI, system: System, tokens: Sequence[Token]) -> None:
    """Serves the dashboard too. Call it before the first request."""
    for module in PAGES:
        app.include_router(module.router, include_in_schema=False)
    paths = {context.path for context in iter_route_contexts(app.routes)}
    app.state.frame = Frame(
        links=[link for link in NAVIGATION if link.path in paths],
        cluster=ClusterLine(system),
        login=bool(tokens),
    )
    if tokens:
        app.state.sessions = SessionCookies(system, tokens)
    app.state.tokens = tokens
    app.add_middleware(Front)
