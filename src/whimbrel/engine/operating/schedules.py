"""What a person does to schedules, and sees of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from whimbrel.domain.bson.document_ids import canonical
from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.raw_bson import decoded
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.filters import check_filter, parse_filter, read_filter, split_status
from whimbrel.domain.runs.schedules import (
    Plan,
    Schedule,
    ScheduleUnknown,
    Tick,
    check_cron,
    check_name,
)
from whimbrel.domain.runs.stages import Stages, stages_asked
from whimbrel.domain.runs.time_zones import check_zone
from whimbrel.domain.runs.windows import check_windows
from whimbrel.engine.operating.default_schedule import DEFAULT, next_at, why_not_enabled
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.errors import StagesRefused
from whimbrel.ports import Ledger

SHOWN = 20  # ticks of all schedules together that the status shows


@dataclass(frozen=True, slots=True)
class SchedulerStatus:
    """The scheduler as a whole."""

    on: bool
    holder: str | None
    schedules: list[Schedule]
    note: str = ""  # why the settings have not enabled it


def scheduler_status(ledger: Ledger, first: Plan | None = None) -> SchedulerStatus:
    """Returns the scheduler as it is; given the `first` plan, with the default schedule that the next `prepare` will create. Writes nothing."""
    schedules = ledger.schedules
    note = "" if first is None else why_not_enabled(ledger, first)
    return SchedulerStatus(
        schedules.is_on(), schedules.leader(), [*schedules.list(), *_future_default(ledger, first)], note
    )


def _future_default(ledger: Ledger, first: Plan | None) -> list[Schedule]:
    if first is None or ledger.schedules.is_prepared():
        return []
    return [Schedule(name=DEFAULT, plan=first, revision=0, next_at=next_at(ledger, first))]


def plan_of(ledger: Ledger, name: str, first: Plan) -> Plan | None:
    """Returns what a schedule does, or what the default one will do as soon as it is created. None where none has that name."""
    candidates = [ledger.schedules.get(name), *_future_default(ledger, first)]
    return next(
        (schedule.plan for schedule in candidates if schedule is not None and schedule.name == name), None
    )


def find_schedule(ledger: Ledger, name: str) -> Schedule:
    """Returns the schedule of this name. Raises ScheduleUnknown."""
    schedule = ledger.schedules.get(name)
    if schedule is None:
        names = ", ".join(other.name for other in ledger.schedules.list()[:10])
        hint = f"There are: {names}." if names else "There are none."
        raise ScheduleUnknown(f"There is no schedule {name[:80]!r}. {hint}")
    return schedule


def save_schedule(ledger: Ledger, name: str, plan: Plan, *, who: str) -> Schedule:
    """Creates or replaces a schedule. Raises SettingsInvalid that names the field; StagesRefused."""
    checked = check_schedule(name, plan)
    return ledger.schedules.put(name, checked, next_at(ledger, checked), who=who)


def check_schedule(name: str, plan: Plan) -> Plan:
    """Returns a plan as it can be stored under this name. Raises SettingsInvalid that names the field; StagesRefused."""
    check_name(name)
    stages_of(plan)
    return replace(
        plan, cron=check_cron(plan.cron), zone=check_zone(plan.zone), windows=check_windows(plan.windows)
    )


def stages_of(plan: Plan) -> Stages | None:
    """Returns the stages of its runs. Raises StagesRefused."""
    return stages_asked(plan.stages or None, hold=plan.hold, approve=plan.approve)


def check_runs(plan: Plan, definition: Definition) -> None:
    """Checks what can be known of the runs of a plan before there are any: a tick would only fail. Raises FilterRefused, StagesRefused."""
    filters = decoded(plan.filters) if plan.filters else {}
    check_filter(filters)
    phases = [
        split_status(part, definition.status_field)[1]
        for part in (definition.filter, filters)
        if definition.mark == "status"
    ]
    if plan.stages and {"processing", "failed"} & set(phases):
        raise StagesRefused(
            "Stages are for a run over all pending documents: leave out the filter on another status, or the stages."
        )


def remove_schedule(ledger: Ledger, name: str, *, who: str) -> Schedule:
    """Removes a schedule and returns it. Its runs stay. Raises ScheduleUnknown."""
    schedule = find_schedule(ledger, name)
    ledger.schedules.remove(name, who=who)
    return schedule


def switch_on(ledger: Ledger, *, who: str) -> bool:
    """Turns the switch on. Returns False where it was on. Ticks that passed while it was off are not made up for.

    Where no schedule is enabled, the default one is: a started scheduler should have something to do.
    """
    schedules = ledger.schedules
    rows = schedules.list()
    turned = not schedules.is_on()
    if turned:
        next_ticks = [
            (schedule, next_at(ledger, schedule.plan)) for schedule in rows if schedule.plan.enabled
        ]
        schedules.switch(on=True, who=who, next_ticks=next_ticks)
    default = next((schedule for schedule in rows if schedule.name == DEFAULT), None)
    if default is not None and not any(schedule.plan.enabled for schedule in rows):
        save_schedule(ledger, DEFAULT, replace(default.plan, enabled=True), who=who)
        turned = True
    return turned


def switch_off(ledger: Ledger, *, who: str) -> bool:
    """Turns the switch off. Returns False where it was off. Runs continue; a tick that was decided before gets its run."""
    return ledger.schedules.switch(on=False, who=who)


def stored_filters(filters: Mapping[str, Any] | str | None) -> bytes | None:
    """Returns filters, given as Extended JSON or its text, as a plan stores them; None where there are none. Raises FilterRefused."""
    if filters is None:
        return None
    query = parse_filter(filters) if isinstance(filters, str) else read_filter(filters)
    return encoded(query) if query else None


def schedule_object(schedule: Schedule, *, on: bool) -> dict[str, Any]:
    """Returns the Schedule object of the REST API and of `--json`."""
    plan = schedule.plan
    return {
        "name": schedule.name, "migration": plan.migration, "cron": plan.cron, "zone": plan.zone, "enabled": plan.enabled,
        "batchSize": plan.batch_size, "filters": canonical(decoded(plan.filters)) if plan.filters else None,
        "priority": plan.priority, "nextRun": iso_time(schedule.next_at) if on else None, "lastTick": iso_time(schedule.last_at),
        "lastMigrationId": schedule.last_run, "trouble": schedule.trouble, "madeBy": schedule.made_by, "madeAt": iso_time(schedule.made_at),
        "changedBy": schedule.changed_by, "changedAt": iso_time(schedule.changed_at),
        "windows": list(plan.windows), "nice": plan.nice, "follow": plan.follow, "stages": list(plan.stages) or None,
        "holdSeconds": plan.hold, "approve": plan.approve,
    }  # fmt: skip


def ticks_of(scheduler: SchedulerStatus) -> list[tuple[str, Tick]]:
    """Returns the last ticks of all schedules, newest first, each with its schedule's name."""
    named_ticks = [(schedule.name, tick) for schedule in scheduler.schedules for tick in schedule.history]
    return sorted(
        named_ticks,
        key=lambda named_tick: (named_tick[1].decided_at or named_tick[1].due_at, named_tick[1].due_at),
        reverse=True,
    )


def tick_object(name: str, tick: Tick) -> dict[str, Any]:
    return {
        "schedule": name, "at": iso_time(tick.due_at), "since": iso_time(tick.first), "outcome": tick.outcome,
        "migrationId": tick.run, "reason": tick.reason, "decidedAt": iso_time(tick.decided_at),
    }  # fmt: skip


def scheduler_object(scheduler: SchedulerStatus) -> dict[str, Any]:
    """Returns the status of the REST API and of `--json`. `cron` and `zone` are those of the default schedule."""
    default = next((schedule.plan for schedule in scheduler.schedules if schedule.name == DEFAULT), None)
    enabled = scheduler.on and any(schedule.plan.enabled for schedule in scheduler.schedules)
    ticks = ticks_of(scheduler)
    nearest = min(
        (schedule.next_at for schedule in scheduler.schedules if schedule.next_at is not None), default=None
    )
    last = next((named_tick for named_tick in ticks if named_tick[1].outcome == "started"), None)
    return {
        "enabled": enabled, "switchedOn": scheduler.on, "cron": default.cron if default else None,
        "zone": default.zone if default else None, "nextRun": iso_time(nearest) if scheduler.on else None,
        "lastRun": tick_object(*last) if last else None, "holder": scheduler.holder, "note": scheduler.note,
        "schedules": [schedule_object(schedule, on=scheduler.on) for schedule in scheduler.schedules],
        "history": [tick_object(*named_tick) for named_tick in ticks[:SHOWN]],
    }  # fmt: skip
