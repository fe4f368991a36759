"""The signals of the database's health: what they are, what they ask of runs, and how each of them counts."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import ConfigDict, Field, model_validator

from whimbrel.api.answer_cache import ThisAnswerCache
from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.models.envelope import Answer, Model, WholeNumberText, failures
from whimbrel.domain.health import signals as domain
from whimbrel.engine.operating.health_history import DAY, MINUTES_15, thinned
from whimbrel.engine.operating.health_settings import (
    change_thresholds,
    heed_signal,
    ignore_signal,
    known_signal,
)
from whimbrel.engine.operating.health_view import health_object
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.ports import HealthSample, Ledger, Store
from whimbrel.ports.health import all_signals

router = APIRouter(prefix="/health", tags=["health"])
WEEK = 7 * 24 * 3600
Level = Literal["ok", "slow", "stop", "unknown"]
Share = Annotated[float, Field(ge=0, le=1, examples=[0.25])]
Moment = Annotated[str | None, Field(examples=["2026-12-31T14:02:00.000Z"])]


class Reason(Model):
    """Why runs go slower, or wait."""

    signal: str = Field(description="name of the signal", examples=["member-lag"])
    level: Literal["slow", "stop"] = Field(description="what it asks for", examples=["slow"])
    since: Moment = Field(description="since when")
    said: str = Field(
        description="the same in one sentence", examples=["replication lag 2.4 s > 2 s on host2:27017"]
    )


class Signal(Model):
    """One signal."""

    name: str = Field(description="its name", examples=["member-lag"])
    title: str = Field(description="what it measures", examples=["replication lag"])
    unit: str = Field(description="of value and thresholds; empty where they are numbers", examples=["s"])
    level: Level = Field(
        description="what it asks for; unknown: it was never read, and asks for nothing", examples=["ok"]
    )
    value: float | None = Field(description="null: not read", examples=[0.2])
    slow: float | None = Field(description="from here on runs go slower; null: never", examples=[2.0])
    stop: float | None = Field(description="from here on runs wait; null: never", examples=[5.0])
    low_is_bad: bool = Field(description="whether small values are the bad ones", examples=[False])
    host: str | None = Field(description="where it was read", examples=["host2:27017"])
    how: str | None = Field(description="the command that it was read by", examples=["replSetGetStatus.members.lastAppliedWallTime"])  # fmt: skip
    problem: str | None = Field(description="why it cannot be read", examples=[None])
    since: Moment = Field(description="since when it has this level")
    ignored_until: Moment = Field(description="until when a person ignores it")
    not_caused_by_runs: bool = Field(
        description="whether it has got no better in a minute in which all runs waited", examples=[False]
    )
    usual: float | None = Field(
        description="what it is where no run makes it worse, of a signal that is compared with that; null: not known, or not compared",
        examples=[9.0],
    )
    grant: str | None = Field(
        description="the role that reading it takes beside readWrite", examples=["clusterMonitor"]
    )


class LeftOut(Model):
    """A member of the replica set that does not count."""

    host: str = Field(description="as MongoDB names it", examples=["host3:27017"])
    why: str = Field(description="why it does not count", examples=["it lags 3,600 s on purpose"])


class MemberOf(Model):
    """A member of the replica set."""

    host: str = Field(description="as MongoDB names it", examples=["host2:27017"])
    standing: Literal["primary", "secondary", "left out", "does not answer"] = Field(
        description="what it is; left out: its lag and silence do not count", examples=["secondary"]
    )
    lag: float | None = Field(
        description="seconds that it is behind the primary; null: not read", examples=[0.2]
    )
    silence: float | None = Field(
        description="seconds since the primary heard of it; null: not read", examples=[1.1]
    )
    why: str | None = Field(description="why it is left out", examples=[None])


class Sample(Model):
    """A second, or the worst of a minute."""

    at: str = Field(description="when", examples=["2026-12-31T14:02:00.000Z"])
    share: Share = Field(description="of their speed that runs had")
    level: Level = Field(description="the worst of all signals", examples=["slow"])
    values: dict[str, float] = Field(description="by the signal's name", examples=[{"member-lag": 2.4}])


class HealthSignals(Answer):
    """The database's health as runs obey it."""

    state: Level = Field(description="the worst that any signal asks for", examples=["slow"])
    share: Share = Field(description="of their speed that runs may have now")
    since: Moment = Field(description="since when that has not been all of it")
    age: float | None = Field(
        description="seconds since the last sample; null: there never was one", examples=[0.4]
    )
    sampled_by: str | None = Field(description="the process that samples", examples=["host1:4711:0a1b2c3d"])
    reasons: list[Reason] = Field(description="why, the worst first")
    advice: str | None = Field(
        description="what a person may do, once runs have waited for ten minutes", examples=[None]
    )
    left_out: list[LeftOut] = Field(description="members whose lag and silence do not count")
    members: list[MemberOf] = Field(
        description="of the replica set, the primary first, as the last sample saw them; empty of a stand-alone server"
    )
    signals: list[Signal] = Field(description="all signals, those of your own checks last")
    history: list[Sample] = Field(description="oldest first; empty where none was asked for")


class Change(Model):
    """What to change; what is left out stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["slow"], "properties": {"slow": {"type": "number"}}},
                {"required": ["stop"], "properties": {"stop": {"type": "number"}}},
                {"required": ["reset"], "properties": {"reset": {"const": True}}},
                {"required": ["ignoreSeconds"], "properties": {"ignoreSeconds": {"type": "number"}}},
            ]
        }
    )

    slow: float | None = Field(
        default=None, strict=True, ge=0, le=1e12, description="from here on runs go slower", examples=[5.0]
    )
    stop: float | None = Field(
        default=None, strict=True, ge=0, le=1e12, description="from here on runs wait", examples=[20.0]
    )
    reset: bool | None = Field(default=None, strict=True, description="true: first make its thresholds those of the table again", examples=[False])  # fmt: skip
    ignore_seconds: float | None = Field(
        default=None,
        strict=True,
        ge=0,
        le=WEEK,
        description="ignore the signal for so long; 0: heed it again",
        examples=[3600],
    )
    note: str = Field(
        default="", max_length=500, description="why, for the audit", examples=["a backup is being written"]
    )

    @model_validator(mode="after")
    def _says_something(self) -> "Change":
        if not self.reset and {self.slow, self.stop, self.ignore_seconds} == {None}:
            raise ValueError("give at least one of slow, stop, reset and ignoreSeconds")
        return self


class Changed(Answer):
    """The signal as it counts from the next second on."""

    name: str = Field(description="its name", examples=["member-lag"])
    slow: float | None = Field(description="from here on runs go slower; null: never", examples=[5.0])
    stop: float | None = Field(description="from here on runs wait; null: never", examples=[20.0])
    ignored_until: Moment = Field(description="until when it is ignored")


@router.get("/signals", response_model=HealthSignals, responses=failures(422, 503))
async def signals(
    deployment: Deployment,
    _caller: Reader,
    cache: ThisAnswerCache,
    history: Annotated[
        Literal["seconds", "minutes"] | None,
        Query(
            description="seconds: also the last 15 minutes by seconds; minutes: the last day",
            examples=["seconds"],
        ),
    ] = None,
    points: Annotated[
        int | None,
        Query(
            ge=10,
            le=1440,
            description="at most so many rows of the history, each the worst of its part; null: all",
            examples=[90],
        ),
        WholeNumberText,
    ] = None,
) -> Response:
    """The signals of the database's health, what they ask of runs, and why. Looked at twice a second at most."""
    store = deployment.store
    return await cache.answer(
        ("signals", history, points), lambda: (200, _signals(store.ledger, history, _own(store), points))
    )


def _own(store: Store) -> tuple[domain.Signal, ...]:
    """The checks that this process has."""
    return store.watching.signals if store.watching is not None else ()


def _signals(
    ledger: Ledger, history: str | None, own: tuple[domain.Signal, ...], points: int | None
) -> HealthSignals:
    verdict = ledger.health.verdict()
    found = health_object(verdict, ledger.health.settings(), own)
    rows = ledger.health.history(minutes=history == "minutes") if history else ()
    if points is not None:
        span = DAY if history == "minutes" else MINUTES_15
        rows = thinned(rows, all_signals(own, verdict.checks), span=span, points=points)
    return HealthSignals.model_validate({**found, "history": [_sample(row) for row in rows]})


def _sample(row: HealthSample) -> dict[str, Any]:
    return {"at": iso_time(row.at), "share": row.share, "level": row.level, "values": dict(row.values)}


@router.patch("/signals/{name}", responses=failures(400, 404, 409, 413, 415, 422))
def change_signal(
    deployment: Deployment,
    caller: Operator,
    name: Annotated[str, Path(max_length=40, description="name of a signal", examples=["member-lag"])],
    body: Annotated[Change, Body()],
) -> Changed:
    """Change the thresholds of a signal, or ignore it for a while. Audited."""
    ledger, own, who = deployment.store.ledger, _own(deployment.store), caller.who
    known_signal(ledger, name, own)  # also where nothing is to be changed
    if body.reset or body.slow is not None or body.stop is not None:
        change_thresholds(
            ledger, name, slow=body.slow, stop=body.stop, who=who, reset=bool(body.reset), own=own
        )
    if body.ignore_seconds:
        ignore_signal(ledger, name, seconds=body.ignore_seconds, who=who, why=body.note, own=own)
    elif body.ignore_seconds is not None:
        heed_signal(ledger, name, who=who, own=own)
    settings = ledger.health.settings()
    until = settings.ignored.get(name)
    found = health_object(ledger.health.verdict(), settings, own)
    row = next(each for each in found["signals"] if each["name"] == name)
    return Changed(name=name, slow=row["slow"], stop=row["stop"], ignored_until=iso_time(until))
