"""The servers: whether there are several, whether they follow, and whether their clocks agree with this host's."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo import MongoClient

from whimbrel.domain.runs.preflight_findings import CheckName, Finding, warning
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.subject import LOOK

BEHIND = (
    30.0  # seconds that a member may lag: an idle set writes every 10, and hears of it by a later heartbeat
)
SKEW = 2.0  # seconds that clocks may differ
PRIMARY, SECONDARY, ARBITER = 1, 2, 7


def now() -> datetime:
    return datetime.now(UTC)


def alone() -> Finding:
    return warning(
        CheckName.REPLICA_SET,
        "This server is stand-alone: a write that it acknowledged is on one machine only, and a write that the network broke off is not tried again by the driver.",
        "Make it a replica set, even of one member, which does both; or accept it.",
    )


def members(client: MongoClient[Any]) -> Iterator[Finding]:
    """Every write of a run waits for a majority of them."""
    status = _status(client)
    rows = [each for each in status["members"] if each["state"] != ARBITER]
    down = [each["name"] for each in rows if each["state"] not in (PRIMARY, SECONDARY)]
    newest = max((each["optimeDate"] for each in rows if each["state"] == PRIMARY), default=None)
    lags = {
        str(each["name"]): (newest - each["optimeDate"]).total_seconds()
        for each in rows
        if newest is not None and each["state"] == SECONDARY
    }
    late = {name: lag for name, lag in lags.items() if lag > BEHIND}
    if down or late:
        said = [
            *(f"{name} is down" for name in down),
            *(f"{name} lags {lag:,.0f} s" for name, lag in late.items()),
        ]
        yield warning(
            CheckName.MEMBERS,
            f"Of the replica set's {len(rows)} members {', '.join(said)}. Every write of a run waits for a majority, and members that are behind must catch up with it.",
            "Bring them back first, or give the run a rate (`maxDocsPerSecond` of the REST API).",
            down=down, lagSeconds=late,
        )  # fmt: skip


def clock(client: MongoClient[Any]) -> Iterator[Finding]:
    """Of this host against the server that answers. Leases are in the server's time, so none of it breaks a promise."""
    before = now()
    with translated():
        said = client.admin.command("hello")["localTime"]
    after = now()
    difference = skew(_aware(said), before, after)
    if abs(difference) > SKEW:
        word = "ahead of" if difference > 0 else "behind"
        yield warning(
            CheckName.CLOCK,
            f"The server's clock is {abs(difference):,.1f} seconds {word} this host's. Leases go by the server's alone; logs, and functions that look at the time, do not.",
            "Let NTP set both.",
            seconds=round(difference, 1),
        )


def cluster_time(client: MongoClient[Any]) -> Iterator[Finding]:
    """Of the members against one another: the oplog's time never goes back, so it shows a clock that was ahead."""
    status = _status(client)
    newest = max((each["optimeDate"] for each in status["members"] if "optimeDate" in each), default=None)
    ahead = (newest - status["date"]).total_seconds() if newest else 0.0
    if ahead > SKEW:
        yield warning(
            CheckName.CLOCK,
            f"The oplog is {ahead:,.1f} seconds ahead of the server's clock: another member, whose clock was ahead, was primary. After a change of primary leases end that much too early or too late.",
            "Let NTP set the clocks of all members.",
            seconds=round(ahead, 1),
        )


def skew(said: datetime, before: datetime, after: datetime) -> float:
    """Seconds by which a clock is ahead that was read between two moments; 0 where it may be right."""
    if said > after:
        return (said - after).total_seconds()
    return (said - before).total_seconds() if said < before else 0.0


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _status(client: MongoClient[Any]) -> Mapping[str, Any]:
    with translated():
        found: Mapping[str, Any] = client.admin.command("replSetGetStatus", maxTimeMS=LOOK)
    return found
