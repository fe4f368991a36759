"""Checks the servers: whether there are several, whether they keep up, and whether their clocks agree with this host's."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import MongoClient

from whimbrel.domain.runs.preflight_findings import CheckName, Finding, warning
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.subject import LOOK

BEHIND = (
    30.0  # seconds that a member may lag: an idle set writes every 10, and learns of it by a later heartbeat
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
    """Warns of members that are down or lag: every write of a run waits for a majority."""
    status = _status(client)
    rows = [member for member in status["members"] if member["state"] != ARBITER]
    down = [member["name"] for member in rows if member["state"] not in (PRIMARY, SECONDARY)]
    newest = max((member["optimeDate"] for member in rows if member["state"] == PRIMARY), default=None)
    configured = _configured(client)
    delays = _delays(configured)
    lags = {
        str(member["name"]): (newest - member["optimeDate"]).total_seconds()
        for member in rows
        if newest is not None and member["state"] == SECONDARY and member["name"] not in delays
    }
    late = {name: lag for name, lag in lags.items() if lag > BEHIND}
    if down or late:
        complaints = [
            *(f"{name} is down" for name in down),
            *(f"{name} lags {lag:,.0f} s" for name, lag in late.items()),
        ]
        yield warning(
            CheckName.MEMBERS,
            f"Of the replica set's {len(rows)} members {', '.join(complaints)}. Every write of a run waits for a majority, and members that are behind must catch up with it.",
            "Bring them back first, or give the run a rate (`maxDocsPerSecond` of the REST API).",
            down=down, lagSeconds=late,
        )  # fmt: skip
    yield from _delayed_voters(configured)


def _delayed_voters(configured: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Warns of members that lag on purpose and vote: where they are needed for a majority, each write takes as long as they lag."""
    delays = _delays([row for row in configured if row.get("votes", 1)])
    if delays:
        listed = ", ".join(f"{host} ({seconds:,} s)" for host, seconds in delays.items())
        yield warning(
            CheckName.MEMBERS,
            f"Of the replica set's members these lag on purpose, and vote: {listed}. As soon as another member is down, each write of a run, and of the application with the majority, waits so long.",
            "Take their votes: set votes and priority of such a member to 0 by rs.reconfig().",
            delaySeconds=delays,
        )


def _configured(client: MongoClient[Any]) -> Sequence[Mapping[str, Any]]:
    with translated():
        config = client.admin.command("replSetGetConfig", maxTimeMS=LOOK)["config"]
    rows: Sequence[Mapping[str, Any]] = config["members"]
    return rows


def _delays(configured: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        str(row["host"]): int(row["secondaryDelaySecs"])
        for row in configured
        if row.get("secondaryDelaySecs")
    }


def clock(client: MongoClient[Any]) -> Iterator[Finding]:
    """Compares this host's clock with the server's. Leases use the server's time, so a difference does not break them."""
    before = now()
    with translated():
        server_time = client.admin.command("hello")["localTime"]
    after = now()
    difference = skew(_with_zone(server_time), before, after)
    if abs(difference) > SKEW:
        word = "ahead of" if difference > 0 else "behind"
        yield warning(
            CheckName.CLOCK,
            f"The server's clock is {abs(difference):,.1f} seconds {word} this host's. Leases go by the server's alone; logs, and functions that look at the time, do not.",
            "Let NTP set both.",
            seconds=round(difference, 1),
        )


def cluster_time(client: MongoClient[Any]) -> Iterator[Finding]:
    """Compares the members' clocks: the oplog's time never goes back, so it shows a clock that was ahead."""
    status = _status(client)
    newest = max(
        (member["optimeDate"] for member in status["members"] if "optimeDate" in member), default=None
    )
    ahead = (newest - status["date"]).total_seconds() if newest else 0.0
    if ahead > SKEW:
        yield warning(
            CheckName.CLOCK,
            f"The oplog is {ahead:,.1f} seconds ahead of the server's clock: another member, whose clock was ahead, was primary. After a change of primary leases end that much too early or too late.",
            "Let NTP set the clocks of all members.",
            seconds=round(ahead, 1),
        )


def skew(time: datetime, before: datetime, after: datetime) -> float:
    """Returns the seconds by which a clock that was read between two moments is ahead; 0 where it may be right."""
    if time > after:
        return (time - after).total_seconds()
    return (time - before).total_seconds() if time < before else 0.0


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _status(client: MongoClient[Any]) -> Mapping[str, Any]:
    with translated():
        status: Mapping[str, Any] = client.admin.command("replSetGetStatus", maxTimeMS=LOOK)
    return status
