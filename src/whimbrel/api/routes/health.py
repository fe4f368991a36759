"""Answers whether the process is alive, whether it is ready, and how each part is."""

import os
from typing import Literal

import psutil
from fastapi import APIRouter, Response
from pydantic import Field

from whimbrel.api.answer_cache import ThisAnswerCache
from whimbrel.api.deployment import System, ThisSystem
from whimbrel.api.models.envelope import Answer, Model
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.errors import Transient, WhimbrelError

router = APIRouter(prefix="/health", tags=["health"])


class Part(Model):
    """One dependency."""

    status: Literal["OK", "ERROR"] = Field(description="whether it can be used", examples=["OK"])
    detail: str = Field(description="what it is, or why it cannot be used", examples=["the embedded MongoDB"])


class Workers(Model):
    """The worker processes of the whole cluster."""

    alive: int = Field(description="that have said so within five seconds", examples=[2])
    slots: int = Field(description="batches that they can work on at a time", examples=[4])


class Health(Answer):
    """How each part is."""

    status: Literal["OK", "ERROR"] = Field(description="OK when every part is", examples=["OK"])
    database: Part = Field(description="MongoDB")
    broker: Part = Field(description="what carries batches to workers")
    workers: Workers = Field(description="worker processes of the cluster")
    uptime: float = Field(description="seconds since this process started", examples=[12.5])
    memory: int = Field(description="resident memory of this process, in bytes", examples=[62914560])
    version: str = Field(description="of Whimbrel", examples=["0.1.0"])
    pid: int = Field(description="of this process", examples=[4711])


class Live(Answer):
    """The process answers."""

    status: Literal["alive"] = Field(default="alive", description="nothing else is ever said")


class Ready(Answer):
    """Whether requests can be carried out."""

    status: Literal["ready", "not ready"] = Field(description="whether it is", examples=["ready"])
    reason: str = Field(description="what it still waits for; empty when it is ready", examples=[""])


def database_part(system: System) -> Part:
    """Whether MongoDB answers now."""
    if not system.ready:
        return Part(status="ERROR", detail=system.reason)
    try:
        system.deployment.store.ping()
    except WhimbrelError as error:
        return Part(status="ERROR", detail=system.why(error))
    return Part(status="OK", detail=system.deployment.where)


def broker_part(system: System) -> Part:
    """Whether the broker accepts pointers."""
    if not system.ready:
        return Part(status="ERROR", detail=system.reason)
    announcer = system.announcer
    if announcer.polled:
        return Part(status="OK", detail="the ledger broker: workers look into the ledger")
    try:
        announcer.check()
    except WhimbrelError as error:
        return Part(status="ERROR", detail=system.why(error))
    return Part(status="OK", detail="RabbitMQ")


@router.get(
    "", response_model=Health, responses={503: {"model": Health, "description": "a part cannot be used"}}
)
async def health(system: ThisSystem, cache: ThisAnswerCache) -> Response:
    """How everything is: looked at twice a second at most."""
    return await cache.answer("health", lambda: _health(system))


def _health(system: System) -> tuple[int, Health]:
    database, broker = database_part(system), broker_part(system)
    alive, slots = 0, 0
    if database.status == "OK":
        try:
            live_workers = system.deployment.store.ledger.leases.workers(ALIVE)
            alive, slots = len(live_workers), sum(worker.slots for worker in live_workers)
        except Transient as error:
            database = Part(status="ERROR", detail=system.why(error))
    good = database.status == broker.status == "OK"
    return 200 if good else 503, Health(
        status="OK" if good else "ERROR", database=database, broker=broker, workers=Workers(alive=alive, slots=slots),
        uptime=round(system.uptime, 3), memory=psutil.Process().memory_info().rss, version=system.version, pid=os.getpid(),
    )  # fmt: skip


@router.get("/live")
async def live() -> Live:
    """Whether the process answers at all: as soon as the port is open."""
    return Live()


@router.get(
    "/ready",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "it waits for a dependency"}},
)
async def ready(system: ThisSystem, cache: ThisAnswerCache) -> Response:
    """Whether requests can be carried out: MongoDB and the broker are reached, migrations are loaded. Looked at twice a second at most."""
    return await cache.answer("ready", lambda: _ready(system))


def _ready(system: System) -> tuple[int, Ready]:
    for part in (database_part(system), broker_part(system)):
        if part.status != "OK":
            return 503, Ready(status="not ready", reason=part.detail)
    return 200, Ready(status="ready", reason="")
