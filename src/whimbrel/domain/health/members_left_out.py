"""Members of a replica set that do not count: those that lag on purpose, that a person has named, or that are being built or restored."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from whimbrel.domain.health.signals import SIGNALS

RECOVERING, STARTUP2 = 3, 5
BUILDING = {RECOVERING: "RECOVERING", STARTUP2: "STARTUP2"}
FAR_BEHIND = 3600.0  # seconds: a member that was restored, and is named instead of waited for
CAUGHT_UP = SIGNALS["member-lag"].slow or 0.0  # seconds: from here on it counts like any other
IGNORED = "WHIMBREL_HEALTH_IGNORE_MEMBERS names it"
NO_MEMBER = "WHIMBREL_HEALTH_IGNORE_MEMBERS names it, but the replica set has no member of this name"
RESTORED = "more than an hour behind when it was first seen"


@dataclass(slots=True)
class Newcomers:
    """Remembers which members are being built or restored: they are left out until they have caught up.

    A member that falls far behind while it is watched is no newcomer: it counts, however far behind it is.
    """

    seen: set[str] = field(default_factory=set)
    building: dict[str, str] = field(default_factory=dict)  # why, by host

    def why(self, host: str, state: int, lag: float | None) -> str:
        """Returns why a member is left out; empty where it counts. `lag`: in seconds; None: not known."""
        if state in BUILDING:
            self.building[host] = f"{BUILDING[state]}: it is being built or restored"
        elif lag is not None:
            if host not in self.seen and lag > FAR_BEHIND:
                self.building[host] = RESTORED
            if lag < CAUGHT_UP:
                self.building.pop(host, None)
        if state in BUILDING or lag is not None:
            self.seen.add(host)
        return self.building.get(host, "")

    def keep(self, hosts: Iterable[str]) -> None:
        """Forgets members that the set has no more."""
        present = set(hosts)
        self.seen &= present
        self.building = {host: why for host, why in self.building.items() if host in present}


def lags_on_purpose(seconds: int) -> str:
    return f"it lags {seconds:,} s on purpose"


def not_members(ignored: Iterable[str], hosts: Iterable[str]) -> list[str]:
    """Returns the hosts that a person has named and that the set does not have."""
    present = set(hosts)
    return sorted(host for host in ignored if host not in present)
