"""What the head of every page says of the cluster: at which share of their speed runs go, why, and whether anything is frozen."""

from dataclasses import dataclass
from typing import Any

from whimbrel.api.deployment import System
from whimbrel.dashboard.recently import Recently
from whimbrel.domain.health.verdict import STALE_SLOW, stale_reason
from whimbrel.engine.operating.freezing import freezes_object
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Ledger

FRESH = 0.5  # seconds for which an answer serves all pages


@dataclass(frozen=True, slots=True)
class Cluster:
    """`level`: ok, slow, stop, unknown or off. `why`: the worst signal, in a sentence. `freeze`: as the API has freezes; None: unknown."""

    level: str
    share: float
    why: str
    freeze: dict[str, Any] | None


class ClusterLine:
    """The line, computed twice a second at most, however many pages are open."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._line: Recently[Cluster | None] = Recently(FRESH)

    def now(self) -> Cluster | None:
        """Returns the line; None where the ledger does not answer."""
        return self._line.of(self._system, self._read)

    def _read(self) -> Cluster | None:
        watched = self._system.settings.whimbrel_health == "on"
        try:
            return cluster_of(self._system.deployment.store.ledger, watched=watched)
        except WhimbrelError:
            return None


def cluster_of(ledger: Ledger, *, watched: bool) -> Cluster:
    """Reads the line. `watched`: whether this process obeys the database's health."""
    freeze = freezes_object(ledger.freezes.look())
    if not watched:
        return Cluster("off", 1.0, "", freeze)
    verdict = ledger.health.verdict()
    if verdict.age is None:
        return Cluster("unknown", 1.0, "", freeze)
    stale = verdict.age >= STALE_SLOW
    why = stale_reason(verdict.age) if stale else verdict.reasons[0].sentence if verdict.reasons else ""
    level = "stop" if verdict.allowed == 0.0 else "slow" if verdict.allowed < 1.0 else "ok"
    return Cluster(level, verdict.allowed, why, freeze)
