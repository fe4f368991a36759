"""Reads the members' signals out of MongoDB's `replSetGetStatus` and `replSetGetConfig`.

https://www.mongodb.com/docs/manual/reference/command/replSetGetStatus/
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from whimbrel.domain.health.members_left_out import (
    BUILDING,
    IGNORED,
    NO_MEMBER,
    Newcomers,
    lags_on_purpose,
    not_members,
)
from whimbrel.domain.health.readings import Reading

COMMAND = "replSetGetStatus"
ALONE = "there is no other member"
PRIMARY, SECONDARY, ARBITER = 1, 2, 7
ROUNDED = 3.0  # seconds by which `optimeDate`, which older servers have alone, is too early
MISSED = 3  # heartbeats after which a member counts as silent; the election timeout comes much later

Row = Mapping[str, Any]


def member_readings(
    status: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    ignored: frozenset[str] = frozenset(),
    newcomers: Newcomers | None = None,
) -> Iterator[Reading]:
    """Yields lag and silence of each member that counts, what the majority lags, and whether members are missing (1), or no more than a majority is left (2).

    `config`: the set's configuration; None where it cannot be read. `ignored`: hosts that a person has named. Members that are left out are yielded as
    absent, with the reason. `newcomers`: what was seen of the members before.
    """
    members = [row for row in status["members"] if row["state"] != ARBITER]
    lags = _lags(members)
    left_out = _left_out(members, config, ignored, newcomers or Newcomers(), lags)
    heartbeat = float(status.get("heartbeatIntervalMillis", 2000)) / 1000
    for row in members:
        host = str(row["name"])
        if host in left_out:
            yield Reading("member-lag", None, host, absent=left_out[host])
        elif host in lags:
            yield Reading("member-lag", lags[host][0], host, f"{COMMAND}.members.{lags[host][1]}")
        if host not in ignored and row["state"] not in (PRIMARY, *BUILDING):
            yield from _silence(row, status["date"], heartbeat)
    hosts = {str(row["name"]) for row in status["members"]}
    yield from (Reading("member-lag", None, host, absent=NO_MEMBER) for host in not_members(ignored, hosts))
    if len(members) == 1:
        yield from (Reading(name, None, absent=ALONE) for name in ("member-lag", "member-silence"))
    yield from _majority(status, members)
    yield from _down(status, members, config, ignored)


def _lags(members: Sequence[Row]) -> dict[str, tuple[float, str]]:
    """Returns the lag of each secondary, and the field that tells it: `optimeDate` of other members is up to some seconds old."""
    newest = next((row for row in members if row["state"] == PRIMARY), None)
    lags: dict[str, tuple[float, str]] = {}
    for row in members:
        if row["state"] == SECONDARY and newest is not None:
            for name, correction in (("lastAppliedWallTime", 0.0), ("optimeDate", ROUNDED)):
                if name in newest and name in row:
                    seconds = (newest[name] - row[name]).total_seconds() - correction
                    lags[str(row["name"])] = max(0.0, seconds), name
                    break
    return lags


def _left_out(
    members: Sequence[Row],
    config: Mapping[str, Any] | None,
    ignored: frozenset[str],
    newcomers: Newcomers,
    lags: Mapping[str, tuple[float, str]],
) -> dict[str, str]:
    """Returns why members are left out, by host."""
    delays, found = _delays(config), {}
    newcomers.keep(str(row["name"]) for row in members)
    for row in members:
        host = str(row["name"])
        if host in ignored:
            why = IGNORED
        elif host in delays:
            why = lags_on_purpose(delays[host])
        else:
            why = newcomers.why(host, row["state"], lags[host][0] if host in lags else None)
        if why:
            found[host] = why
    return found


def _silence(row: Row, now: datetime, heartbeat: float) -> Iterator[Reading]:
    received = row.get("lastHeartbeatRecv")
    if isinstance(received, datetime) and received.timestamp() > 0:
        silent, how = (now - received).total_seconds(), f"{COMMAND}.members.lastHeartbeatRecv"
        yield Reading("member-silence", max(0.0, silent), str(row["name"]), how, slow=MISSED * heartbeat)


def _majority(status: Mapping[str, Any], members: Sequence[Row]) -> Iterator[Reading]:
    optimes = status.get("optimes", {})
    applied, committed = optimes.get("lastAppliedWallTime"), optimes.get("lastCommittedWallTime")
    if isinstance(applied, datetime) and isinstance(committed, datetime):
        lag = max(0.0, (applied - committed).total_seconds())
        yield Reading("majority-lag", lag, _primary(members), f"{COMMAND}.optimes")


def _down(
    status: Mapping[str, Any],
    members: Sequence[Row],
    config: Mapping[str, Any] | None,
    ignored: frozenset[str],
) -> Iterator[Reading]:
    """Compares the voters that hold data and are well with what a majority write needs. A member that lags on purpose acknowledges nothing in time."""
    needed = status.get("writeMajorityCount")
    if not isinstance(needed, int):
        return
    votes, delays = _votes(config), _delays(config)
    healthy = [
        host
        for row in members
        if _is_up(row)
        and row["state"] in (PRIMARY, SECONDARY)
        and votes.get(host := str(row["name"]), 1)
        and host not in delays
    ]
    down = [str(row["name"]) for row in members if str(row["name"]) not in ignored and not _is_up(row)]
    value = 0.0 if not down else 1.0 if len(healthy) > needed else 2.0
    how = f"{COMMAND}.members.health"
    yield Reading("members-down", value, ", ".join(down) or _primary(members), how)


def _is_up(row: Row) -> bool:
    """Whether a member answers, and takes part or will. One that is being built is left out, not missing."""
    return bool(row.get("health", 1) == 1) and row["state"] in (PRIMARY, SECONDARY, *BUILDING)


def _primary(members: Sequence[Row]) -> str:
    return next((str(row["name"]) for row in members if row["state"] == PRIMARY), "")


def _configured(config: Mapping[str, Any] | None) -> Sequence[Row]:
    rows: Sequence[Row] = config.get("members", ()) if config is not None else ()
    return rows


def _delays(config: Mapping[str, Any] | None) -> dict[str, int]:
    """Returns the members that lag on purpose, and by how many seconds."""
    delays = {
        str(row["host"]): row.get("secondaryDelaySecs", row.get("slaveDelay", 0))
        for row in _configured(config)
    }
    return {host: int(delay) for host, delay in delays.items() if delay}


def _votes(config: Mapping[str, Any] | None) -> dict[str, int]:
    return {str(row["host"]): int(row.get("votes", 1)) for row in _configured(config)}
