"""Reads the members' signals out of `hello`, which every user may ask each member: in whole seconds, and without what needs a privilege.

https://www.mongodb.com/docs/manual/reference/command/hello/
"""

from collections.abc import Iterator, Mapping
from typing import Any

from whimbrel.domain.health.members_left_out import (
    IGNORED,
    NO_MEMBER,
    STARTUP2,
    Newcomers,
    lags_on_purpose,
    not_members,
)
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.replica_set_status import ALONE, SECONDARY

HOW = "hello to each member, in whole seconds"
ROUNDED = 1.0  # seconds by which two times in whole seconds may be too far apart


def other_hosts(primary: Mapping[str, Any]) -> list[str]:
    """Returns the members that the primary names beside itself. It does not name hidden ones."""
    hosts = [*primary.get("hosts", ()), *primary.get("passives", ())]
    return [str(host) for host in hosts if host != primary.get("me")]


def majority_reading(primary: Mapping[str, Any]) -> Reading:
    """Returns what the majority lags, as the primary says."""
    last = primary["lastWrite"]
    lag = (last["lastWriteDate"] - last["majorityWriteDate"]).total_seconds() - ROUNDED
    host, how = str(primary.get("me", "")), "hello.lastWrite, in whole seconds"
    return Reading("majority-lag", max(0.0, lag), host, how, lesser=True)


def hello_readings(
    primary: Mapping[str, Any],
    answers: Mapping[str, Mapping[str, Any] | None],
    silent: Mapping[str, float],
    ignored: frozenset[str],
    newcomers: Newcomers,
) -> Iterator[Reading]:
    """Yields lag and silence of the other members. `answers`: None of those that did not answer. `silent`: for how many seconds they have not, by host."""
    newcomers.keep(answers)
    for host, answer in answers.items():
        if host in ignored:
            yield Reading("member-lag", None, host, absent=IGNORED)
            continue
        yield Reading("member-silence", silent.get(host, 0.0), host, "hello to each member", lesser=True)
        if answer is not None:
            yield _lag(primary, host, answer, newcomers)
    me = str(primary.get("me", ""))
    yield from (
        Reading("member-lag", None, host, absent=NO_MEMBER) for host in not_members(ignored, [*answers, me])
    )
    if not answers:
        yield from (Reading(name, None, absent=ALONE) for name in ("member-lag", "member-silence"))


def _lag(primary: Mapping[str, Any], host: str, answer: Mapping[str, Any], newcomers: Newcomers) -> Reading:
    delay = int(answer.get("secondaryDelaySecs", 0))
    if delay:
        return Reading("member-lag", None, host, absent=lags_on_purpose(delay))
    if not answer.get("secondary"):
        return Reading("member-lag", None, host, absent=newcomers.why(host, STARTUP2, None))
    newest, own = primary["lastWrite"]["lastWriteDate"], answer["lastWrite"]["lastWriteDate"]
    lag = max(0.0, (newest - own).total_seconds() - ROUNDED)
    why = newcomers.why(host, SECONDARY, lag)
    return Reading("member-lag", None if why else lag, host, HOW, absent=why, lesser=True)
