"""The members of a replica set, as the readings of one sample tell of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from whimbrel.domain.health.readings import Reading

Standing = Literal["primary", "secondary", "left out", "does not answer"]


@dataclass(frozen=True, slots=True)
class Member:
    """A member. `lag`, `silence`: seconds; None: not read. `why`: why it is left out."""

    host: str
    standing: Standing
    lag: float | None = None
    silence: float | None = None
    why: str = ""


def members_of(readings: Iterable[Reading]) -> tuple[Member, ...]:
    """Returns the members that readings name, the primary first. None of a stand-alone server."""
    found: dict[str, Member] = {}
    primary, down = "", frozenset[str]()
    for reading in readings:
        if reading.signal == "new-primary" and reading.host:
            primary = reading.host
            found.setdefault(primary, Member(primary, "secondary"))
        elif reading.signal == "members-down" and reading.value:
            down = frozenset(reading.host.split(", "))
        elif reading.signal in ("member-lag", "member-silence") and reading.host:
            member = found.get(reading.host, Member(reading.host, "secondary"))
            found[reading.host] = _with(member, reading)
    named = [_standing(member, primary, down) for member in found.values()]
    return tuple(sorted(named, key=lambda member: (member.standing != "primary", member.host)))


def _with(member: Member, reading: Reading) -> Member:
    if reading.absent:
        return replace(member, why=reading.absent)
    if reading.signal == "member-lag":
        return replace(member, lag=reading.value)
    return replace(member, silence=reading.value)


def _standing(member: Member, primary: str, down: frozenset[str]) -> Member:
    if member.host == primary:
        return replace(member, standing="primary")
    if member.host in down:
        return replace(member, standing="does not answer")
    return replace(member, standing="left out" if member.why else "secondary")
