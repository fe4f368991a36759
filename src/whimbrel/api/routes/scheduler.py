"""Switches the scheduler, shows its status, and edits the schedules by which it starts runs."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import AfterValidator, Field

from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import ThisSystem
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import Answer, Model, WholeNumber, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.terms import HOLD, STAGES, Approve, Follow, HoldSeconds, Nice, StagesAsked, Windows
from whimbrel.api.routes.starting import waiting_message
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.runs.schedules import NAME, Plan, Schedule, ScheduleUnknown, check_cron
from whimbrel.domain.runs.time_zones import check_zone
from whimbrel.engine.operating import schedules as engine
from whimbrel.engine.operating.default_schedule import prepare_default
from whimbrel.engine.operating.scheduled_runs import run_now
from whimbrel.errors import SettingsInvalid
from whimbrel.ports import Ledger

router = APIRouter(prefix="/migrate/scheduler", tags=["scheduler"])

AT = "2026-11-24T12:00:00.000Z"
Name = Annotated[
    str,
    Path(pattern=NAME, description="a to z, 0 to 9, dot, hyphen, underscore", examples=["nightly"]),
]


def _prepared(system: ThisSystem) -> Ledger:
    ledger = system.deployment.store.ledger
    prepare_default(ledger, system.settings.first_schedule)
    return ledger


Schedules = Annotated[Ledger, Depends(_prepared)]


def _checked(check: Callable[[str], str]) -> AfterValidator:
    def validate(text: str) -> str:
        try:
            return check(text)
        except SettingsInvalid as error:
            raise ValueError(str(error).rstrip(".")) from error

    return AfterValidator(validate)


class ScheduleBody(Model):
    """What a schedule shall be. What is left out is as in a new one."""

    migration: str = Field(max_length=200, description="name of the migration", examples=["some-model"])
    cron: Annotated[str, _checked(check_cron)] = Field(
        max_length=200,
        description="minute, hour, day, month, weekday; or six fields with the second before them",
        examples=["*/5 * * * *"],
        json_schema_extra={"format": "cron"},
    )
    zone: Annotated[str, _checked(check_zone)] = Field(
        default="UTC",
        max_length=100,
        description="time zone by its name in the IANA database",
        examples=["Europe/Berlin"],
        json_schema_extra={"format": "time-zone"},
    )
    enabled: Annotated[bool, Field(strict=True, description="whether its ticks start runs")] = True
    batch_size: Annotated[int, Field(strict=True, ge=1, le=100_000), WholeNumber] | None = Field(
        default=None,
        description="documents in a batch; null: the migration's, else the setting's",
        examples=[5000],
    )
    filters: dict[str, Any] | None = Field(
        default=None,
        description="an Extended-JSON query that narrows the migration's own; without a status, a run goes over all phases",
        examples=[{"country": "NL"}],
    )
    priority: Annotated[
        int, Field(strict=True, ge=0, le=10, description="above 5 it goes before others"), WholeNumber
    ] = 0
    windows: Windows = Field(default_factory=list)
    nice: Nice = 0
    follow: Follow = False
    stages: StagesAsked | None = STAGES
    hold_seconds: HoldSeconds | None = HOLD
    approve: Approve = False


class ScheduleOf(Model):
    """A schedule."""

    name: str = Field(description="unique", examples=["nightly"])
    migration: str = Field(description="name of the migration", examples=["some-model"])
    cron: str = Field(description="as it was set, one blank between fields", examples=["*/5 * * * *"])
    zone: str = Field(description="time zone by which the cron is read", examples=["UTC"])
    enabled: bool = Field(description="whether its ticks start runs", examples=[True])
    batch_size: int | None = Field(description="null: the migration's, else the setting's", examples=[5000])
    filters: dict[str, Any] | None = Field(description="canonical Extended JSON", examples=[None])
    priority: int = Field(description="0 to 10; above 5 it goes before others", examples=[0])
    next_run: str | None = Field(
        description="its next tick; null where it is disabled, or the scheduler stopped", examples=[AT]
    )
    last_tick: str | None = Field(description="the last tick that was decided", examples=[AT])
    last_migration_id: str | None = Field(description="the last run that it started", examples=[RUN])
    trouble: str = Field(description="why its ticks cannot be decided; empty where they can", examples=[""])
    made_by: str = Field(description="who made it", examples=["api:operate-1@10.0.0.7"])
    made_at: str | None = Field(description="RFC 3339", examples=[AT])
    changed_by: str = Field(description="who changed it last", examples=["api:operate-1@10.0.0.7"])
    changed_at: str | None = Field(description="RFC 3339", examples=[AT])
    windows: list[str] = Field(description="hours in which its runs work; empty: at any time", examples=[[]])
    nice: int = Field(description="0 to 100: the share of its runs is at most 1/(1+nice)", examples=[0])
    follow: bool = Field(
        description="whether its runs go on after the sweep with what is written; until such a run is ended, ticks start no other",
        examples=[False],
    )
    stages: list[str] | None = Field(
        description="the stages that its runs go in; null: all at once", examples=[None]
    )
    hold_seconds: float | None = Field(
        description="seconds that its runs wait at the gate of each stage", examples=[None]
    )
    approve: bool = Field(description="whether its runs wait at each gate for a person", examples=[False])


class TickOf(Model):
    """What became of a tick."""

    schedule: str = Field(description="name of the schedule", examples=["nightly"])
    at: str = Field(description="when it was due", examples=[AT])
    since: str = Field(
        description="the oldest tick that it stands for: earlier where nobody was there for some",
        examples=[AT],
    )
    outcome: Literal["started", "skipped", "missed", "failed"] = Field(
        description="what became of it: only `started` has a run", examples=["started"]
    )
    migration_id: str | None = Field(description="the run that it started", examples=[RUN])
    reason: str = Field(description="why it started none, or late", examples=[""])
    decided_at: str | None = Field(description="RFC 3339", examples=[AT])


class Status(Answer):
    """The scheduler as a whole. `cron` and `zone` are those of the schedule `default`."""

    enabled: bool = Field(description="whether any tick will start a run", examples=[True])
    switched_on: bool = Field(description="the switch, over all schedules", examples=[True])
    cron: str | None = Field(description="null where `default` was removed", examples=["*/1 * * * *"])
    zone: str | None = Field(description="null where `default` was removed", examples=["UTC"])
    next_run: str | None = Field(description="the nearest tick of all", examples=[AT])
    last_run: TickOf | None = Field(description="the last tick that started a run")
    holder: str | None = Field(
        description="the process that decides the ticks now; null while there is none",
        examples=["host:4711:1f3a5c7e"],
    )
    note: str = Field(
        description="why ENABLE_SCHEDULER=true, if it is set, has not enabled it; empty where it has",
        examples=[""],
    )
    schedules: list[ScheduleOf] = Field(description="all of them, by name")
    history: list[TickOf] = Field(description="the last 20 ticks of all schedules, newest first")


class SchedulerSwitched(Answer):
    """The scheduler was started or stopped."""

    enabled: bool = Field(description="whether any tick will start a run", examples=[True])
    message: str = Field(description="what was done", examples=["The scheduler is started."])


class ScheduleAnswer(Answer):
    """The schedule."""

    schedule: ScheduleOf = Field(description="as it is now; of a removed one, as it was")


class ScheduleList(Answer):
    """All schedules."""

    count: int = Field(description="of all schedules", examples=[1])
    schedules: list[ScheduleOf] = Field(description="by name")


@router.get("/status", responses=failures())
def status(system: ThisSystem, ledger: Schedules, _: Reader) -> Status:
    """Whether it is on, what it did, and what comes next."""
    status = engine.scheduler_status(ledger, system.settings.first_schedule)
    return Status(**engine.scheduler_object(status))


@router.post("/start", responses=failures())
def start(ledger: Schedules, caller: Operator) -> SchedulerSwitched:
    """Turn the scheduler on, for the whole cluster and for good. Where no schedule is enabled, `default` is."""
    changed = engine.switch_on(ledger, who=caller.who)
    enabled = bool(engine.scheduler_object(engine.scheduler_status(ledger))["enabled"])
    what_happened = "is started" if changed else "was started already"
    hint = "" if enabled else " No schedule is enabled: PUT /migrate/scheduler/schedules/{name} makes one."
    return SchedulerSwitched(enabled=enabled, message=f"The scheduler {what_happened}.{hint}")


@router.post("/stop", responses=failures())
def stop(ledger: Schedules, caller: Operator) -> SchedulerSwitched:
    """Turn the scheduler off, for the whole cluster and for good. Runs go on."""
    what_happened = "is stopped" if engine.switch_off(ledger, who=caller.who) else "was stopped already"
    return SchedulerSwitched(
        enabled=False, message=f"The scheduler {what_happened}. Runs that it started go on."
    )


@router.get("/schedules", responses=failures())
def schedules(ledger: Schedules, _: Reader) -> ScheduleList:
    """All schedules."""
    status = engine.scheduler_status(ledger)
    rows = [ScheduleOf(**engine.schedule_object(schedule, on=status.on)) for schedule in status.schedules]
    return ScheduleList(count=len(rows), schedules=rows)


@router.get("/schedules/{name}", responses=failures(404, 422))
def schedule(ledger: Schedules, _: Reader, name: Name) -> ScheduleAnswer:
    """One schedule."""
    return _answer(ledger, _found(ledger, name))


@router.put("/schedules/{name}", responses=failures(400, 404, 409, 413, 415, 422))
def put(
    system: ThisSystem, ledger: Schedules, caller: Operator, name: Name, body: ScheduleBody
) -> ScheduleAnswer:
    """Make a schedule, or replace one."""
    definition = choose(system.loaded, body.migration)
    plan = Plan(
        migration=body.migration, cron=body.cron, zone=body.zone, enabled=body.enabled,
        batch_size=body.batch_size, filters=engine.stored_filters(body.filters), priority=body.priority,
        windows=tuple(body.windows), nice=body.nice, follow=body.follow, stages=tuple(body.stages or ()), hold=body.hold_seconds,
        approve=body.approve,
    )  # fmt: skip
    engine.check_runs(plan, definition)
    return _answer(ledger, engine.save_schedule(ledger, name, plan, who=caller.who))


class ScheduleRan(Answer):
    """A run was started by a schedule, at once; or nothing matches."""

    migration_id: str | None = Field(description="id of the run; null where none was started", examples=[RUN])
    message: str = Field(description="what happened", examples=["Started."])


@router.post("/schedules/{name}/run", responses=failures(404, 409, 422))
def run_schedule(system: ThisSystem, ledger: Schedules, caller: Operator, name: Name) -> ScheduleRan:
    """Start the run of a schedule now, as its next tick would; also of a disabled one. Its ticks stay as they are."""
    schedule = _found(ledger, name)
    run = run_now(
        system.deployment.store, schedule, system.evaluated(schedule.plan.migration), defaults=system.settings.defaults, who=caller.who
    )  # fmt: skip
    if run is None:
        return ScheduleRan(migration_id=None, message="Nothing matches: no run was started.")
    return ScheduleRan(migration_id=run.id, message=waiting_message(ledger, run))


@router.delete("/schedules/{name}", responses=failures(404, 422))
def remove(ledger: Schedules, caller: Operator, name: Name) -> ScheduleAnswer:
    """Remove a schedule. The runs that it started stay, and go on. Answers with what it was."""
    try:
        schedule = engine.remove_schedule(ledger, name, who=caller.who)
    except ScheduleUnknown as error:
        raise ApiError(404, error.code, str(error)) from error
    return _answer(ledger, schedule)


def _found(ledger: Ledger, name: str) -> Schedule:
    try:
        return engine.find_schedule(ledger, name)
    except ScheduleUnknown as error:
        raise ApiError(404, error.code, str(error)) from error


def _answer(ledger: Ledger, schedule: Schedule) -> ScheduleAnswer:
    on = ledger.schedules.is_on()
    return ScheduleAnswer(schedule=ScheduleOf(**engine.schedule_object(schedule, on=on)))
