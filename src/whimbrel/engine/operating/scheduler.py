"""The scheduler: ticks of schedules start runs, each tick once.

It keeps nothing in memory that matters: a tick is decided by one conditional update of its schedule's row, and that
row holds the run until it is added. The scheduler may die at any point, or run twice, without harm.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.schedules import (
    Plan,
    Schedule,
    Tick,
    due,
)
from whimbrel.engine.operating.default_schedule import prepare_default, why_not_enabled
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.engine.operating.scheduled_runs import draft_scheduled_run, why_overlapping
from whimbrel.engine.operating.start import Defaults, estimate
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.repeated_errors import RepeatedErrors, pause_message
from whimbrel.errors import MigrationUnknown, SettingsInvalid, Transient, WhimbrelError
from whimbrel.ports import Decision, Store

log = structlog.get_logger("whimbrel.scheduler")

ROLE = "scheduler"
ASKING = 2.0  # seconds between two attempts to take the role from another


class Scheduler:
    """One process's candidate for the role of scheduler.

    `evaluated`: evaluates a migration by its code as it is now, or raises MigrationUnknown. `first`: the default schedule, used where nobody has created it yet.
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
        self._role_held = self._asked = -role_seconds - ASKING
        self._repeated_errors = RepeatedErrors()

    def tick(self) -> None:
        """Finishes what another scheduler left pending, and decides what is due."""
        # Also where another process holds the role: the person who started this one wants to know.
        if not self._prepared:
            self._prepare()
        if not self._holds_role():
            return
        state = self._schedules.snapshot()
        self._repeated_errors.keep({schedule.name for schedule in state.schedules})
        broken: Exception | None = None
        for schedule in state.schedules:
            try:
                self._decide_due(schedule, state.now, on=state.on)
            except Exception as error:  # noqa: BLE001  one schedule's error must not affect the others
                if not self._handle_error(schedule, error) and not isinstance(error, WhimbrelError):
                    broken = error
        if broken is not None:
            raise broken

    def _prepare(self) -> None:
        prepare_default(self._ledger, self._first)
        if why := why_not_enabled(self._ledger, self._first):
            log.warning("the scheduler stays as it is", reason=why)
        self._prepared = True

    def _decide_due(self, schedule: Schedule, now: datetime, *, on: bool) -> None:
        if schedule.pending is not None:
            self._carry_out(schedule)
        elif on and schedule.next_at is not None and schedule.next_at <= now:
            self._decide_tick(schedule, schedule.next_at, now)
        self._repeated_errors.forget(schedule.name)

    def _handle_error(self, schedule: Schedule, error: Exception) -> bool:
        """Counts an error: the tick is tried again; when the same error keeps coming, though the ledger answers, the tick has failed.

        Returns whether it has failed now.
        """
        now = self._schedules.now()  # raises where the ledger does not answer
        why = self._repeated_errors.record(schedule.name, error, (schedule.next_at, schedule.pending))
        if not why:
            log.warning("a schedule is tried again", schedule=schedule.name, reason=pause_message(error))
        elif schedule.pending is not None or schedule.next_at is None:
            self._schedules.record_trouble(schedule.name, why)
        else:
            due_tick = due(schedule.plan, schedule.next_at, now)
            tick = Tick(due_at=due_tick.tick, first=due_tick.first, outcome="failed", reason=why)
            self._schedules.decide(schedule, Decision(tick=tick, following=due_tick.following))
        return bool(why)

    def _holds_role(self) -> bool:
        """Returns whether this process holds the role, which it asks for again only when half of it is over."""
        now = time.monotonic()
        if now - self._role_held < self._role_seconds / 2:
            return True
        if now - self._asked < min(ASKING, self._role_seconds / 2):
            return False
        self._asked = now
        if not self._ledger.leases.lead(ROLE, self._name, self._role_seconds):
            return False
        self._role_held = now
        return True

    def _decide_tick(self, schedule: Schedule, next_at: datetime, now: datetime) -> None:
        try:
            decision = self._decision(schedule, next_at, now)
        except SettingsInvalid as error:  # this host does not know the zone: the next tick is unknown too
            self._schedules.record_trouble(schedule.name, f"{self._name}: {error}")
            return
        self._step("T1")
        if not self._schedules.decide(schedule, decision):
            return  # somebody else has decided it, or a person has changed the schedule
        tick = decision.tick
        log.info(
            "tick", schedule=schedule.name, at=iso_time(tick.due_at), outcome=tick.outcome, why=tick.reason
        )
        if decision.run is not None:
            self._step("T2")
            self._carry_out(replace(schedule, pending=decision.run.id))

    def _carry_out(self, schedule: Schedule) -> None:
        """Adds the run that the row holds, and records the tick in the history. Whichever process comes first; doing it twice does no harm."""
        if self._schedules.add_run(schedule):
            self._step("T3")
            self._schedules.close(schedule)

    def _decision(self, schedule: Schedule, next_at: datetime, now: datetime) -> Decision:
        """Decides a tick. Raises SettingsInvalid, Transient."""
        due_tick = due(schedule.plan, next_at, now)
        late = (
            f"It stands for all ticks since {iso_time(due_tick.first)}."
            if due_tick.first < due_tick.tick
            else ""
        )
        tick = Tick(due_at=due_tick.tick, first=due_tick.first, outcome="started", reason=late)
        if due_tick.missed:
            why = "No scheduler was there, and it is over for more than an hour."
            return Decision(tick=replace(tick, outcome="missed", reason=why), following=due_tick.following)
        if why := why_overlapping(self._ledger, schedule):
            return Decision(tick=replace(tick, outcome="skipped", reason=why), following=due_tick.following)
        try:
            # Evaluated again at each start: its filter may hold the time.
            definition = self._evaluate(schedule.plan.migration)
            run = draft_scheduled_run(self._store, schedule, definition, defaults=self._defaults)
            if run is None:
                tick = replace(tick, outcome="skipped", reason="Nothing matches.")
                return Decision(tick=tick, following=due_tick.following)
            self._ledger.codes.keep(definition.code_hash, definition.code)
            run = with_warnings(self._store, definition, run, documents=estimate(self._store, run))
        except Transient:
            raise
        except WhimbrelError as error:
            tick = replace(tick, outcome="failed", reason=str(error))
            log.warning("a schedule cannot start its run", schedule=schedule.name, reason=str(error))
            return Decision(tick=tick, following=due_tick.following)
        return Decision(tick=replace(tick, run=run.id), following=due_tick.following, run=run)

    def _evaluate(self, name: str) -> Definition:
        try:
            return self._evaluated(name)
        except MigrationUnknown as error:
            raise SettingsInvalid(
                f"{self._name} has no migration {name!r}. Start every worker and API with the same --migrations."
            ) from error
