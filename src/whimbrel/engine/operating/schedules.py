"""What a person does to schedules, and sees of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from whimbrel.domain.bson.document_ids import canonical
from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.raw_bson import decoded
from whimbrel.domain.migrations.filters import parse_filter, read_filter
from whimbrel.domain.runs.schedules import (
    Plan,
    Schedule,
    ScheduleUnknown,
    Tick,
    check_cron,
    check_name,
    check_zone,
)
from whimbrel.engine.operating.default_schedule import DEFAULT, next_at, why_not_enabled
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.ports import Ledger

SHOWN = 20  # ticks of all schedules together, in the status


@dataclass(frozen=True, slots=True)
class SchedulerStatus:
    """The scheduler as a whole."""

    on: bool
    holder: str | None
    schedules: list[Schedule]
    note: str = ""  # why the settings have not enabled it


def scheduler_status(ledger: Ledger, first: Plan | None = None) -> SchedulerStatus:
    """As it is; given the `first` plan, with the default schedule that the next `prepare` will make. Nothing is written."""
    schedules = ledger.schedules
    note = "" if first is None else why_not_enabled(ledger, first)
    return SchedulerStatus(
        schedules.is_on(), schedules.leader(), [*schedules.list(), *_ahead(ledger, first)], note
    )


def _ahead(ledger: Ledger, first: Plan | None) -> list[Schedule]:
    if first is None or ledger.schedules.is_prepared():
        return []
    return [Schedule(name=DEFAULT, plan=first, revision=0, next_at=next_at(ledger, first))]


def plan_of(ledger: Ledger, name: str, first: Plan) -> Plan | None:
    """What a schedule does, or the default one will do as soon as it is made. None where there is none of that name."""
    found = [ledger.schedules.get(name), *_ahead(ledger, first)]
    return next((each.plan for each in found if each is not None and each.name == name), None)


def find_schedule(ledger: Ledger, name: str) -> Schedule:
    """Raises ScheduleUnknown."""
    found = ledger.schedules.get(name)
    if found is None:
        names = ", ".join(each.name for each in ledger.schedules.list()[:10])
        hint = f"There are: {names}." if names else "There are none."
        raise ScheduleUnknown(f"There is no schedule {name[:80]!r}. {hint}")
    return found


def save_schedule(ledger: Ledger, name: str, plan: Plan, *, who: str) -> Schedule:
    """Make or replace a schedule. Raises SettingsInvalid that names the field."""
    checked = check_schedule(name, plan)
    return ledger.schedules.put(name, checked, next_at(ledger, checked), who=who)


def check_schedule(name: str, plan: Plan) -> Plan:
    """A plan as it can be kept under this name. Raises SettingsInvalid that names the field."""
    check_name(name)
    return replace(plan, cron=check_cron(plan.cron), zone=check_zone(plan.zone))


def remove_schedule(ledger: Ledger, name: str, *, who: str) -> Schedule:
    """The schedule that was there. Its runs stay. Raises ScheduleUnknown."""
    found = find_schedule(ledger, name)
    ledger.schedules.remove(name, who=who)
    return found


def switch_on(ledger: Ledger, *, who: str) -> bool:
    """Turn the switch on. False where it was on. Ticks that passed while it was off are not made up for.

    Where no schedule is enabled, the default one is: a scheduler that is started shall have something to do.
    """
    schedules = ledger.schedules
    rows = schedules.list()
    turned = not schedules.is_on()
    if turned:
        anew = [(each, next_at(ledger, each.plan)) for each in rows if each.plan.enabled]
        schedules.switch(on=True, who=who, anew=anew)
    default = next((each for each in rows if each.name == DEFAULT), None)
    if default is not None and not any(each.plan.enabled for each in rows):
        save_schedule(ledger, DEFAULT, replace(default.plan, enabled=True), who=who)
        turned = True
    return turned


def switch_off(ledger: Ledger, *, who: str) -> bool:
    """Turn the switch off. False where it was off. Runs go on; a tick that was decided before gets its run."""
    return ledger.schedules.switch(on=False, who=who)


def kept(filters: Mapping[str, Any] | str | None) -> bytes | None:
    """Filters, as Extended JSON or its text, as a plan keeps them; None where there are none. Raises FilterRefused."""
    if filters is None:
        return None
    found = parse_filter(filters) if isinstance(filters, str) else read_filter(filters)
    return encoded(found) if found else None


def schedule_object(schedule: Schedule, *, on: bool) -> dict[str, Any]:
    """The Schedule object of the REST API and of `--json`."""
    plan = schedule.plan
    return {
        "name": schedule.name, "migration": plan.migration, "cron": plan.cron, "zone": plan.zone, "enabled": plan.enabled,
        "batchSize": plan.batch_size, "filters": canonical(decoded(plan.filters)) if plan.filters else None,
        "priority": plan.priority, "nextRun": iso_time(schedule.next_at) if on else None, "lastTick": iso_time(schedule.last_at),
        "lastMigrationId": schedule.last_run, "trouble": schedule.trouble, "madeBy": schedule.made_by, "madeAt": iso_time(schedule.made_at),
        "changedBy": schedule.changed_by, "changedAt": iso_time(schedule.changed_at),
    }  # fmt: skip


def ticks_of(scheduler: SchedulerStatus) -> list[tuple[str, Tick]]:
    """The last ticks of all schedules, newest first, each with its schedule's name."""
    found = [(each.name, tick) for each in scheduler.schedules for tick in each.history]
    return sorted(found, key=lambda each: (each[1].decided_at or each[1].at, each[1].at), reverse=True)


def tick_object(name: str, tick: Tick) -> dict[str, Any]:
    return {
        "schedule": name, "at": iso_time(tick.at), "since": iso_time(tick.first), "outcome": tick.outcome,
        "migrationId": tick.run, "reason": tick.reason, "decidedAt": iso_time(tick.decided_at),
    }  # fmt: skip


def scheduler_object(scheduler: SchedulerStatus) -> dict[str, Any]:
    """The status of the REST API and of `--json`. `cron` and `zone` are those of the default schedule."""
    default = next((each.plan for each in scheduler.schedules if each.name == DEFAULT), None)
    enabled = scheduler.on and any(each.plan.enabled for each in scheduler.schedules)
    ticks = ticks_of(scheduler)
    nearest = min((each.next_at for each in scheduler.schedules if each.next_at is not None), default=None)
    last = next((each for each in ticks if each[1].outcome == "started"), None)
    return {
        "enabled": enabled, "switchedOn": scheduler.on, "cron": default.cron if default else None,
        "zone": default.zone if default else None, "nextRun": iso_time(nearest) if scheduler.on else None,
        "lastRun": tick_object(*last) if last else None, "holder": scheduler.holder, "note": scheduler.note,
        "schedules": [schedule_object(each, on=scheduler.on) for each in scheduler.schedules],
        "history": [tick_object(*each) for each in ticks[:SHOWN]],
    }  # fmt: skip
