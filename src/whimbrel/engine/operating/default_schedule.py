"""The schedule `default`: made by the settings of the first process, and enabled by those of a later one, unless a person has decided otherwise."""

from datetime import datetime

from whimbrel.domain.runs.schedules import Plan, next_after
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.ports import Ledger

DEFAULT = "default"
SETTINGS = "settings"  # who changed a schedule: the environment, and no person
NOTHING = "ENABLE_SCHEDULER=true enables nothing"


def prepare_default(ledger: Ledger, plan: Plan) -> None:
    """Make the default schedule, if nobody ever has: one that was removed stays away; or let `plan` enable it. Raises SettingsInvalid."""
    if ledger.schedules.is_prepared():
        enable_by_settings(ledger, plan)
    else:
        ledger.schedules.prepare(DEFAULT, plan, next_at(ledger, plan))


def enable_by_settings(ledger: Ledger, plan: Plan) -> None:
    """Enable the default schedule, where `plan` says so, no person has changed it, and the scheduler is not stopped. Raises SettingsInvalid."""
    schedules = ledger.schedules
    if plan.enabled and schedules.stopped() is None:
        found = schedules.get(DEFAULT)
        if found is not None and not found.plan.enabled and found.changed_by == SETTINGS:
            schedules.take_up(DEFAULT, plan, next_at(ledger, plan), who=SETTINGS)


def why_not_enabled(ledger: Ledger, plan: Plan) -> str:
    """Why a setting that enables the scheduler has not; nothing where it has, or where there is none."""
    schedules = ledger.schedules
    if not plan.enabled or not schedules.is_prepared():
        return ""
    stopped, found = schedules.stopped(), schedules.get(DEFAULT)
    if stopped is not None:
        who, at = stopped
        return f"{NOTHING}: {who} stopped the scheduler at {iso_time(at)}. Start it: whimbrel schedule start, or POST /migrate/scheduler/start."
    if found is None:
        return f"{NOTHING}: the schedule {DEFAULT!r} was removed. Make one: whimbrel schedule set {DEFAULT}."
    if not found.plan.enabled and found.changed_by != SETTINGS:
        return f"{NOTHING}: {found.changed_by} disabled the schedule {DEFAULT!r} at {iso_time(found.changed_at)}. Enable it: whimbrel schedule set {DEFAULT} --enable."
    return ""


def next_at(ledger: Ledger, plan: Plan) -> datetime | None:
    """The next tick of a plan, by the server's clock; None where it is disabled. Raises SettingsInvalid."""
    return next_after(plan.cron, plan.zone, ledger.schedules.now()) if plan.enabled else None
