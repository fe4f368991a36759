"""Reads the members' signals out of MongoDB's `replSetGetStatus` and `replSetGetConfig`.

https://www.mongodb.com/docs/manual/reference/command/replSetGetStatus/
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from whimbrel.domain.health.readings import Reading

COMMAND = "replSetGetStatus"
ALONE = "there is no other member"
PRIMARY, SECONDARY, ARBITER = 1, 2, 7
ROUNDED = 3.0  # seconds by which `optimeDate`, which older servers have alone, is too early
MISSED = 3  # heartbeats after which a member counts as silent; the election timeout comes much later
FAR_BEHIND = 3600.0  # seconds: a member that was restored, and is named instead of waited for


def member_readings(
    status: Mapping[str, Any], config: Mapping[str, Any] | None, ignored: frozenset[str] = frozenset()
) -> Iterator[Reading]:
    """Yields lag and silence of each member that counts, what the majority lags, and whether members are missing (1), or no more than a majority is left (2).

    `config`: the set's configuration; None where it cannot be read. `ignored`: hosts that a person has left out.
    """
    members = [row for row in status["members"] if row["state"] != ARBITER and row["name"] not in ignored]
    delayed = _delayed(config)
    newest = next((_applied(row) for row in members if row["state"] == PRIMARY), None)
    heartbeat = float(status.get("heartbeatIntervalMillis", 2000)) / 1000
    for row in members:
        host = str(row["name"])
        received = row.get("lastHeartbeatRecv")
        if isinstance(received, datetime) and received.timestamp() > 0 and row["state"] != PRIMARY:
            silent = (status["date"] - received).total_seconds()
            how = f"{COMMAND}.members.lastHeartbeatRecv"
            yield Reading("member-silence", max(0.0, silent), host, how, slow=MISSED * heartbeat)
        if row["state"] == SECONDARY and newest is not None and host not in delayed:
            lag = _lag(newest, row)
            if lag is not None and lag[0] <= FAR_BEHIND:
                yield Reading("member-lag", lag[0], host, f"{COMMAND}.members.{lag[1]}")
    if len(members) == 1:
        yield from (Reading(name, None, absent=ALONE) for name in ("member-lag", "member-silence"))
    yield from _majority(status, members)


def _majority(status: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> Iterator[Reading]:
    host = next((str(row["name"]) for row in members if row["state"] == PRIMARY), "")
    optimes = status.get("optimes", {})
    applied, committed = optimes.get("lastAppliedWallTime"), optimes.get("lastCommittedWallTime")
    if isinstance(applied, datetime) and isinstance(committed, datetime):
        lag = max(0.0, (applied - committed).total_seconds())
        yield Reading("majority-lag", lag, host, f"{COMMAND}.optimes")
    needed = status.get("writeMajorityCount")
    if isinstance(needed, int):
        healthy = sum(
            row["state"] in (PRIMARY, SECONDARY) and row.get("health", 1) == 1 for row in status["members"]
        )
        all_ = len([row for row in status["members"] if row["state"] != ARBITER])
        missing = 0.0 if healthy >= all_ else 1.0 if healthy > needed else 2.0
        down = [str(row["name"]) for row in status["members"] if row.get("health", 1) != 1]
        yield Reading("members-down", missing, ", ".join(down) or host, f"{COMMAND}.members.health")


def _delayed(config: Mapping[str, Any] | None) -> dict[str, int]:
    """Returns the members that lag on purpose, and by how many seconds."""
    rows = config.get("members", ()) if config is not None else ()
    delays = {str(row["host"]): row.get("secondaryDelaySecs", row.get("slaveDelay", 0)) for row in rows}
    return {host: int(delay) for host, delay in delays.items() if delay}


def _applied(row: Mapping[str, Any]) -> Mapping[str, datetime]:
    return {name: row[name] for name in ("lastAppliedWallTime", "optimeDate") if name in row}


def _lag(newest: Mapping[str, datetime], row: Mapping[str, Any]) -> tuple[float, str] | None:
    """Returns a member's lag, and the field that tells it: `optimeDate` of other members is up to some seconds old."""
    own = _applied(row)
    for name, correction in (("lastAppliedWallTime", 0.0), ("optimeDate", ROUNDED)):
        if name in newest and name in own:
            return max(0.0, (newest[name] - own[name]).total_seconds() - correction), name
    return None
