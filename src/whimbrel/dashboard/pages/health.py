"""The database's health: each signal with its thresholds and its last minutes, and the members of the replica set."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment, ThisSystem
from whimbrel.dashboard.recently import Recently
from whimbrel.dashboard.rendering import render
from whimbrel.dashboard.small_multiples import Picture, picture
from whimbrel.domain.health.signals import Signal
from whimbrel.domain.health.verdict import STALE_SLOW, Verdict, measured
from whimbrel.engine.operating.health_history import MINUTES_15, thinned
from whimbrel.engine.operating.health_view import health_object
from whimbrel.ports.health import HealthSample, all_signals

router = APIRouter()
POINTS = 90  # of each picture: one for ten seconds
HISTORY: Recently[list[HealthSample]] = Recently(5.0)
ORDER = {"stop": 0, "slow": 1, "ignored": 2, "ok": 3, "unknown": 4}
# How long a signal may be ignored from the page: all of them end by themselves.
OVERRIDES = (
    (900, "15 minutes"), (3600, "1 hour"), (4 * 3600, "4 hours"), (24 * 3600, "1 day"), (7 * 24 * 3600, "7 days"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SignalRow:
    """A signal as it is shown. `said`, `slow`, `stop` and `worst`, of the picture: with their units."""

    facts: dict[str, Any]
    said: str
    slow: str
    stop: str
    worst: str
    picture: Picture


@router.get("/dashboard/health")
def health(
    request: Request,
    system: ThisSystem,
    deployment: Deployment,
    _: Reader,
    signal: Annotated[str, Query(max_length=100, description="the signal that is to be overridden")] = "",
) -> Response:
    """What the signals say, and what people have said about them."""
    ledger, own = deployment.store.ledger, _own(deployment)
    verdict = ledger.health.verdict()
    signals = all_signals(own, verdict.checks)
    found = health_object(verdict, ledger.health.settings(), own)
    history = HISTORY.of(
        deployment.store,
        lambda: thinned(ledger.health.history(minutes=False), signals, span=MINUTES_15, points=POINTS),
    )
    rows = [_row(signals[each["name"]], each, history, _until(verdict)) for each in found["signals"]]
    rows.sort(key=lambda row: ORDER["ignored" if row.facts["ignoredUntil"] else row.facts["level"]])
    watched = system.settings.whimbrel_health == "on"
    return render(
        request, "health.html", health=found, rows=rows, chosen=signal, overrides=OVERRIDES, watched=watched,
        stale=verdict.age is not None and verdict.age >= STALE_SLOW, shares=_shares(history, _until(verdict)),
    )  # fmt: skip


def _own(deployment: Deployment) -> tuple[Signal, ...]:
    watching = deployment.store.watching
    return watching.signals if watching is not None else ()


def _until(verdict: Verdict) -> datetime:
    """Returns the right edge of the pictures: the last sample, or now where there is none."""
    return verdict.at or datetime.now(UTC)


def _row(signal: Signal, facts: dict[str, Any], history: list[HealthSample], until: datetime) -> SignalRow:
    values = [(sample.at, sample.values[signal.name]) for sample in history if signal.name in sample.values]
    if facts["value"] is not None:  # the thinned history ends earlier
        values.append((until, facts["value"]))
    drawn = picture(
        values, until=until, span=MINUTES_15, step=MINUTES_15 / POINTS, slow=facts["slow"], stop=facts["stop"]
    )

    def said(value: float | None) -> str:
        return "" if value is None else measured(value, signal.unit)

    return SignalRow(
        facts,
        said(facts["value"]),
        said(facts["slow"]),
        said(facts["stop"]),
        said(drawn.smallest if signal.low else drawn.largest),
        drawn,
    )


def _shares(history: list[HealthSample], until: datetime) -> Picture:
    return picture(
        [(sample.at, sample.share) for sample in history],
        until=until,
        span=MINUTES_15,
        step=MINUTES_15 / POINTS,
    )
