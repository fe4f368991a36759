"""The scheduler: ticks of schedules start runs, each tick once. And what a person does to schedules.

It keeps nothing in memory that matters: a tick is decided by one conditional update of its schedule's row, and that
row holds the run until it is added. It may die at any point, or be there twice, without harm.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from whimbrel.domain.encoding import encoded
from whimbrel.domain.filters import parse_filter, read_filter
from whimbrel.domain.ids import canonical
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import decoded
from whimbrel.domain.runs import Run
from whimbrel.domain.schedules import (
    Plan,
    Schedule,
    ScheduleUnknown,
    Tick,
    check_cron,
    check_name,
    check_zone,
    due,
)
from whimbrel.domain.states import ENDED
from whimbrel.engine.first_schedule import DEFAULT, held_back, next_at, take_up
from whimbrel.engine.preflight import warned
from whimbrel.engine.standstill import Standstill, told
from whimbrel.engine.start import Defaults, anything, asked_through, draft_run, estimate
from whimbrel.engine.steps import Step
from whimbrel.engine.view import iso_time
from whimbrel.errors import MigrationUnknown, SettingsInvalid, Transient, WhimbrelError
from whimbrel.ports import Decision, Ledger, Store

log = structlog.get_logger("whimbrel.scheduler")

ROLE = "scheduler"
ASKING = 2.0  # seconds between two attempts to take the role from another
SHOWN = 20  # ticks of all schedules together, in the status


class Scheduler:
    """One process's candidate for the role.

    `evaluated`: a migration as its code evaluates it now, or MigrationUnknown. `first`: the default schedule, where nobody has made it yet.
    """

    def __init__(
        self,
        store: Store,
        evaluated: Callable[[str], Definition],
        *,
        name: str,
        role_seconds: float,
        defaults: Defaults,
        first: Plan,
        step: Step,
    ) -> None:
        self._store, self._ledger, self._schedules = store, store.ledger, store.ledger.schedules
        self._evaluated, self._defaults, self._first = evaluated, defaults, first
        self._prepared = False
        self._name, self._role_seconds, self._step = name, role_seconds, step
        self._led = self._asked = -role_seconds - ASKING
        self._standstill = Standstill()

    def tick(self) -> None:
        """Close what another left pending, and decide what is due."""
        if (
            not self._prepared
        ):  # also where another holds the role: whoever started this process wants to know
            self._prepare()
        if not self._leads():
            return
        look = self._schedules.look()
        self._standstill.keep({each.name for each in look.schedules})
        broken: Exception | None = None
        for each in look.schedules:
            try:
                self._look_at(each, look.now, on=look.on)
            except Exception as error:  # noqa: BLE001  its trouble is not that of the others
                if not self._troubled(each, error) and not isinstance(error, WhimbrelError):
                    broken = error
        if broken is not None:
            raise broken

    def _prepare(self) -> None:
        prepare(self._ledger, self._first)
        if why := held_back(self._ledger, self._first):
            log.warning("the scheduler stays as it is", reason=why)
        self._prepared = True

    def _look_at(self, each: Schedule, now: datetime, *, on: bool) -> None:
        if each.pending is not None:
            self._carry_out(each)
        elif on and each.next_at is not None and each.next_at <= now:
            self._attend(each, each.next_at, now)
        self._standstill.over(each.name)

    def _troubled(self, schedule: Schedule, error: Exception) -> bool:
        """The same is tried again; where it comes to the same time after time, though the ledger answers, the tick has failed by it.

        Whether that is so now.
        """
        now = self._schedules.now()  # raises where it does not
        why = self._standstill.met(schedule.name, error, (schedule.next_at, schedule.pending))
        if not why:
            log.warning("a schedule is tried again", schedule=schedule.name, reason=told(error))
        elif schedule.pending is not None or schedule.next_at is None:
            self._schedules.complain(schedule.name, why)
        else:
            found = due(schedule.plan, schedule.next_at, now)
            tick = Tick(at=found.tick, first=found.first, outcome="failed", reason=why)
            self._schedules.decide(schedule, Decision(tick=tick, following=found.following))
        return bool(why)

    def _leads(self) -> bool:
        """Hold the role, asking again only when half of it is over."""
        now = time.monotonic()
        if now - self._led < self._role_seconds / 2:
            return True
        if now - self._asked < min(ASKING, self._role_seconds / 2):
            return False
        self._asked = now
        if not self._ledger.leases.lead(ROLE, self._name, self._role_seconds):
            return False
        self._led = now
        return True

    def _attend(self, schedule: Schedule, next_at: datetime, now: datetime) -> None:
        try:
            decision = self._decision(schedule, next_at, now)
        except SettingsInvalid as error:  # this host does not know the zone: what comes next is unknown too
            self._schedules.complain(schedule.name, f"{self._name}: {error}")
            return
        self._step("T1")
        if not self._schedules.decide(schedule, decision):
            return  # somebody else has, or a person has changed the schedule
        tick = decision.tick
        log.info("tick", schedule=schedule.name, at=iso_time(tick.at), outcome=tick.outcome, why=tick.reason)
        if decision.run is not None:
            self._step("T2")
            self._carry_out(replace(schedule, pending=decision.run.id))

    def _carry_out(self, schedule: Schedule) -> None:
        """Add the run that the row holds, and make the tick history. Whoever comes first; twice it is the same."""
        if self._schedules.add_run(schedule):
            self._step("T3")
            self._schedules.close(schedule)

    def _decision(self, schedule: Schedule, next_at: datetime, now: datetime) -> Decision:
        """Raises SettingsInvalid, Transient."""
        found = due(schedule.plan, next_at, now)
        late = f"It stands for all ticks since {iso_time(found.first)}." if found.first < found.tick else ""
        tick = Tick(at=found.tick, first=found.first, outcome="started", reason=late)
        if found.missed:
            why = "No scheduler was there, and it is over for more than an hour."
            return Decision(tick=replace(tick, outcome="missed", reason=why), following=found.following)
        if why := self._overlap(schedule):
            return Decision(tick=replace(tick, outcome="skipped", reason=why), following=found.following)
        try:
            it = self._evaluate(schedule.plan.migration)  # at each start anew: its filter may hold the time
            run = self._draft(schedule, it)
            if not anything(self._store, run):
                tick = replace(tick, outcome="skipped", reason="Nothing matches.")
                return Decision(tick=tick, following=found.following)
            self._ledger.codes.keep(it.code_hash, it.code)
            run = warned(self._store, it, run, documents=estimate(self._store, run))
        except Transient:
            raise
        except WhimbrelError as error:
            tick = replace(tick, outcome="failed", reason=str(error))
            log.warning("a schedule cannot start its run", schedule=schedule.name, reason=str(error))
            return Decision(tick=tick, following=found.following)
        return Decision(tick=replace(tick, run=run.id), following=found.following, run=run)

    def _overlap(self, schedule: Schedule) -> str:
        """Why the run before is in the way, or nothing."""
        before = self._ledger.runs.get(schedule.last_run) if schedule.last_run else None
        if before is None or before.status in ENDED:
            return ""
        return f"Run {before.id}, which it started before, is {before.status} still."

    def _evaluate(self, name: str) -> Definition:
        try:
            return self._evaluated(name)
        except MigrationUnknown as error:
            raise SettingsInvalid(
                f"{self._name} has no migration {name!r}. Start every worker and API with the same --migrations."
            ) from error

    def _draft(self, schedule: Schedule, it: Definition) -> Run:
        """A run over all phases, unless the filters ask for one. Raises what `draft_run` raises."""
        plan = schedule.plan
        query = decoded(plan.filters) if plan.filters else None
        run = draft_run(
            self._store, it, defaults=self._defaults, filter_=query, batch_size=plan.batch_size,
            priority=plan.priority,
        )  # fmt: skip
        return asked_through(run, f"schedule {schedule.name}")


@dataclass(frozen=True, slots=True)
class Standing:
    """The scheduler as a whole."""

    on: bool
    holder: str | None
    schedules: list[Schedule]
    note: str = ""  # why the settings have not enabled it


def prepare(ledger: Ledger, plan: Plan) -> None:
    """Make the default schedule, if nobody ever has: one that was removed stays away; or let `plan` enable it. Raises SettingsInvalid."""
    if ledger.schedules.is_prepared():
        take_up(ledger, plan)
    else:
        ledger.schedules.prepare(DEFAULT, plan, next_at(ledger, plan))


def standing(ledger: Ledger, first: Plan | None = None) -> Standing:
    """As it is; given the `first` plan, with the default schedule that the next `prepare` will make. Nothing is written."""
    schedules = ledger.schedules
    note = "" if first is None else held_back(ledger, first)
    return Standing(schedules.is_on(), schedules.leader(), [*schedules.list(), *_ahead(ledger, first)], note)


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


def put(ledger: Ledger, name: str, plan: Plan, *, who: str) -> Schedule:
    """Make or replace a schedule. Raises SettingsInvalid that names the field."""
    checked = check(name, plan)
    return ledger.schedules.put(name, checked, next_at(ledger, checked), who=who)


def check(name: str, plan: Plan) -> Plan:
    """A plan as it can be kept under this name. Raises SettingsInvalid that names the field."""
    check_name(name)
    return replace(plan, cron=check_cron(plan.cron), zone=check_zone(plan.zone))


def remove(ledger: Ledger, name: str, *, who: str) -> Schedule:
    """The schedule that was there. Its runs stay. Raises ScheduleUnknown."""
    found = find_schedule(ledger, name)
    ledger.schedules.remove(name, who=who)
    return found


def start(ledger: Ledger, *, who: str) -> bool:
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
        put(ledger, DEFAULT, replace(default.plan, enabled=True), who=who)
        turned = True
    return turned


def stop(ledger: Ledger, *, who: str) -> bool:
    """Turn the switch off. False where it was off. Runs go on; a tick that was decided before gets its run."""
    return ledger.schedules.switch(on=False, who=who)


def kept(filters: Mapping[str, Any] | str | None) -> bytes | None:
    """Filters, as Extended JSON or its text, as a plan keeps them; None where there are none. Raises FilterRefused."""
    if filters is None:
        return None
    found = parse_filter(filters) if isinstance(filters, str) else read_filter(filters)
    return encoded(found) if found else None


def schedule_object(it: Schedule, *, on: bool) -> dict[str, Any]:
    """The Schedule object of the REST API and of `--json`."""
    plan = it.plan
    return {
        "name": it.name, "migration": plan.migration, "cron": plan.cron, "zone": plan.zone, "enabled": plan.enabled,
        "batchSize": plan.batch_size, "filters": canonical(decoded(plan.filters)) if plan.filters else None,
        "priority": plan.priority, "nextRun": iso_time(it.next_at) if on else None, "lastTick": iso_time(it.last_at),
        "lastMigrationId": it.last_run, "trouble": it.trouble, "madeBy": it.made_by, "madeAt": iso_time(it.made_at),
        "changedBy": it.changed_by, "changedAt": iso_time(it.changed_at),
    }  # fmt: skip


def ticks_of(it: Standing) -> list[tuple[str, Tick]]:
    """The last ticks of all schedules, newest first, each with its schedule's name."""
    found = [(each.name, tick) for each in it.schedules for tick in each.history]
    return sorted(found, key=lambda each: (each[1].decided_at or each[1].at, each[1].at), reverse=True)


def tick_object(name: str, it: Tick) -> dict[str, Any]:
    return {
        "schedule": name, "at": iso_time(it.at), "since": iso_time(it.first), "outcome": it.outcome,
        "migrationId": it.run, "reason": it.reason, "decidedAt": iso_time(it.decided_at),
    }  # fmt: skip


def standing_object(it: Standing) -> dict[str, Any]:
    """The status of the REST API and of `--json`. `cron` and `zone` are those of the default schedule."""
    default = next((each.plan for each in it.schedules if each.name == DEFAULT), None)
    enabled = it.on and any(each.plan.enabled for each in it.schedules)
    ticks = ticks_of(it)
    nearest = min((each.next_at for each in it.schedules if each.next_at is not None), default=None)
    last = next((each for each in ticks if each[1].outcome == "started"), None)
    return {
        "enabled": enabled, "switchedOn": it.on, "cron": default.cron if default else None,
        "zone": default.zone if default else None, "nextRun": iso_time(nearest) if it.on else None,
        "lastRun": tick_object(*last) if last else None, "holder": it.holder, "note": it.note,
        "schedules": [schedule_object(each, on=it.on) for each in it.schedules],
        "history": [tick_object(*each) for each in ticks[:SHOWN]],
    }  # fmt: skip
