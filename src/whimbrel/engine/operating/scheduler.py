"""The scheduler: ticks of schedules start runs, each tick once.

It keeps nothing in memory that matters: a tick is decided by one conditional update of its schedule's row, and that
row holds the run until it is added. It may die at any point, or be there twice, without harm.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from whimbrel.domain.bson.raw_bson import decoded
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import (
    Plan,
    Schedule,
    Tick,
    due,
)
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating.default_schedule import prepare_default, why_not_enabled
from whimbrel.engine.operating.preflight import warned
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.engine.operating.start import Defaults, anything, asked_through, draft_run, estimate
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.repeated_errors import RepeatedErrors, pause_message
from whimbrel.errors import MigrationUnknown, SettingsInvalid, Transient, WhimbrelError
from whimbrel.ports import Decision, Store

log = structlog.get_logger("whimbrel.scheduler")

ROLE = "scheduler"
ASKING = 2.0  # seconds between two attempts to take the role from another


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
        self._repeated_errors = RepeatedErrors()

    def tick(self) -> None:
        """Close what another left pending, and decide what is due."""
        if (
            not self._prepared
        ):  # also where another holds the role: whoever started this process wants to know
            self._prepare()
        if not self._leads():
            return
        look = self._schedules.look()
        self._repeated_errors.keep({each.name for each in look.schedules})
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
        prepare_default(self._ledger, self._first)
        if why := why_not_enabled(self._ledger, self._first):
            log.warning("the scheduler stays as it is", reason=why)
        self._prepared = True

    def _look_at(self, schedule: Schedule, now: datetime, *, on: bool) -> None:
        if schedule.pending is not None:
            self._carry_out(schedule)
        elif on and schedule.next_at is not None and schedule.next_at <= now:
            self._attend(schedule, schedule.next_at, now)
        self._repeated_errors.forget(schedule.name)

    def _troubled(self, schedule: Schedule, error: Exception) -> bool:
        """The same is tried again; where it comes to the same time after time, though the ledger answers, the tick has failed by it.

        Whether that is so now.
        """
        now = self._schedules.now()  # raises where it does not
        why = self._repeated_errors.record(schedule.name, error, (schedule.next_at, schedule.pending))
        if not why:
            log.warning("a schedule is tried again", schedule=schedule.name, reason=pause_message(error))
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

    def _draft(self, schedule: Schedule, definition: Definition) -> Run:
        """A run over all phases, unless the filters ask for one. Raises what `draft_run` raises."""
        plan = schedule.plan
        query = decoded(plan.filters) if plan.filters else None
        run = draft_run(
            self._store, definition, defaults=self._defaults, filter_=query, batch_size=plan.batch_size,
            priority=plan.priority,
        )  # fmt: skip
        return asked_through(run, f"schedule {schedule.name}")
