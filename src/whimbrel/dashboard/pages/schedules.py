"""The schedules: when each comes next, what became of its last ticks and why; and the week with its windows and freezes."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment, ThisSystem
from whimbrel.dashboard.rendering import PARTS, render
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import Schedule
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.week import SPAN, freeze_stretches, ticks_until, window_stretches
from whimbrel.domain.runs.windows import windows_of
from whimbrel.engine.operating import schedules as engine
from whimbrel.engine.operating.freezing import freezes_object
from whimbrel.errors import SettingsInvalid
from whimbrel.ports import FreezeLook, Ledger

router = APIRouter()
BARS: Final = 50  # schedules, and runs, that have a bar in the week
WEEK: Final = "week"  # the part of the page with the bars
TICKS: Final = 10  # of a schedule that are shown
NOT_ENDED: Final = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.PAUSED)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar, in percent of the week. `kind`: open, slow, closed or frozen."""

    left: float
    width: float
    kind: str
    said: str
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of the week. `ticks`: where a schedule is due, in percent; None: too often to be told apart."""

    name: str
    kind: str
    parts: list[Part]
    ticks: list[float] | None


@router.get("/dashboard/schedules")
def schedules(request: Request, system: ThisSystem, deployment: Deployment, _: Reader) -> Response:
    """What is planned, what became of what was, and when nothing may go on."""
    ledger = deployment.store.ledger
    status = engine.scheduler_status(ledger, system.settings.first_schedule)
    found, look = engine.scheduler_object(status), ledger.freezes.look()
    wanted = request.headers.get(PARTS, WEEK)
    bars = (
        _bars(ledger, status.schedules, look) if WEEK in wanted else []
    )  # what is not shown is not worked out
    filters = {each["name"]: json.dumps(each["filters"], ensure_ascii=False) for each in found["schedules"]}
    ticks = {schedule.name: _ticks(schedule) for schedule in status.schedules}
    return render(
        request, "schedules.html", scheduler=found, filters=filters, ticks=ticks, bars=bars,
        days=_days(look.now), freezes=freezes_object(look), migrations=sorted(system.loaded), begins=look.now, ends=look.now + SPAN,
    )  # fmt: skip


def _ticks(schedule: Schedule) -> list[dict[str, Any]]:
    return [engine.tick_object(schedule.name, tick) for tick in reversed(schedule.history[-TICKS:])]


def _days(now: datetime) -> list[tuple[float, datetime]]:
    """Returns where days begin in the bars, in percent, by UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [midnight + timedelta(days=number) for number in range(1, 8)]
    return [(_percent(day - now), day) for day in days]


def _bars(ledger: Ledger, schedules: list[Schedule], look: FreezeLook) -> list[Bar]:
    begins, ends = look.now, look.now + SPAN
    bars = [Bar("All runs", "freezes", _frozen(look, begins, ends), [])]
    enabled = [schedule for schedule in schedules[:BARS] if schedule.plan.enabled]
    bars += [
        Bar(
            schedule.name,
            "schedule",
            _windows(schedule.plan.windows, begins, ends),
            _due(schedule, begins, ends),
        )
        for schedule in enabled
    ]
    runs = ledger.runs.list(statuses=list(NOT_ENDED), limit=BARS, brief=True)
    bars += [_bar_of_run(run, begins, ends) for run in runs if run.windows]
    return bars


def _bar_of_run(run: Run, begins: datetime, ends: datetime) -> Bar:
    return Bar(run.id, "run", _windows(run.windows, begins, ends), [])


def _frozen(look: FreezeLook, begins: datetime, ends: datetime) -> list[Part]:
    return [
        _part(
            stretch.begins,
            stretch.ends,
            begins,
            "frozen",
            f"Frozen{f': {freeze.note}' if freeze.note else ''}",
        )
        for freeze, stretch in freeze_stretches(look.freezes, begins, ends)
    ]


def _windows(texts: tuple[str, ...], begins: datetime, ends: datetime) -> list[Part]:
    parts = []
    for stretch in window_stretches(windows_of(tuple(texts)), begins, ends):
        kind = "open" if stretch.share == 1.0 else "slow" if stretch.share else "closed"
        said = {"open": "works", "slow": f"at {stretch.share:.0%} of its speed", "closed": "waits"}[kind]
        parts.append(_part(stretch.begins, stretch.ends, begins, kind, said))
    return parts


def _part(start: datetime, end: datetime, begins: datetime, kind: str, said: str) -> Part:
    return Part(_percent(start - begins), _percent(end - start), kind, said, start, end)


def _percent(span: timedelta) -> float:
    return round(100 * (span / SPAN), 3)


def _due(schedule: Schedule, begins: datetime, ends: datetime) -> list[float] | None:
    try:
        found = ticks_until(schedule.plan, begins, ends)
    except SettingsInvalid:  # this host does not know the zone: the page says so where the schedule stands
        return []
    return None if found is None else [_percent(moment - begins) for moment in found]
