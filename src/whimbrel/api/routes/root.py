"""Answers with links to everything."""

from typing import Final, Literal

from fastapi import APIRouter
from pydantic import Field

from whimbrel.api.deployment import ThisSystem
from whimbrel.api.models.envelope import Answer

router = APIRouter(tags=["health"])
LINKS: Final = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "health": "/health",
    "live": "/health/live",
    "ready": "/health/ready",
    "metrics": "/metrics",
    "runs": "/migrate",
    "jobs": "/migrate/jobs",
    "definitions": "/migrate/definitions",
    "scheduler": "/migrate/scheduler/status",
    "queue": "/queue/stats",
    "workers": "/queue/consumer-status",
    "monitoring": "/queue/monitoring",
    "audit": "/audit",
    "database": "/db/status",
    "samples": "/seed/docs",
}


class Root(Answer):
    """What this is, and where to go on."""

    name: Literal["Whimbrel"] = Field(default="Whimbrel", description="what this is")
    version: str = Field(description="of it", examples=["0.1.0"])
    links: dict[str, str] = Field(description="where what is, by its path", examples=[LINKS])


@router.get("/")
async def root(system: ThisSystem) -> Root:
    """Where everything is. Needs no token; most of what it links to does."""
    return Root(version=system.version, links=LINKS)
