"""The schedule `default`: created by the settings of the first process, and enabled by those of a later one, unless a person has decided otherwise."""

from datetime import datetime

from whimbrel.domain.runs.schedules import Plan, next_after
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.ports import Ledger

DEFAULT = "default"
SETTINGS = "settings"  # changed a schedule: the environment, not a person
NOTHING = "ENABLE_SCHEDULER=true enables nothing"


def prepare_default(ledger: Ledger, plan: Plan) -> None:
    """Creates the default schedule, unless it was ever created: a removed one stays removed; or lets `plan` enable it. Raises SettingsInvalid."""
    if ledger.schedules.is_prepared():
        enable_by_settings(ledger, plan)
    else:
        ledger.schedules.prepare(DEFAULT, plan, next_at(ledger, plan))


def enable_by_settings(ledger: Ledger, plan: Plan) -> None:
    """Enables the default schedule where `plan` says so, no person has changed it, and the scheduler is not stopped. Raises SettingsInvalid."""
    schedules = ledger.schedules
    if plan.enabled and schedules.stopped() is None:
        schedule = schedules.get(DEFAULT)
        if schedule is not None and not schedule.plan.enabled and schedule.changed_by == SETTINGS:
            schedules.replace_untouched(DEFAULT, plan, next_at(ledger, plan), who=SETTINGS)


def why_not_enabled(ledger: Ledger, plan: Plan) -> str:
    """Returns why a setting that enables the scheduler has not done so; an empty string where it has, or where there is none."""
    schedules = ledger.schedules
    if not plan.enabled or not schedules.is_prepared():
        return ""
    stopped, schedule = schedules.stopped(), schedules.get(DEFAULT)
    if stopped is not None:
        who, stopped_at = stopped
        return f"{NOTHING}: {who} stopped the scheduler at {iso_time(stopped_at)}. Start it: whimbrel schedule start, or POST /migrate/scheduler/start."
    if schedule is None:
        return f"{NOTHING}: the schedule {DEFAULT!r} was removed. Make one: whimbrel schedule set {DEFAULT}."
    if not schedule.plan.enabled and schedule.changed_by != SETTINGS:
        return f"{NOTHING}: {schedule.changed_by} disabled the schedule {DEFAULT!r} at {iso_time(schedule.changed_at)}. Enable it: whimbrel schedule set {DEFAULT} --enable."
    return ""


def next_at(ledger: Ledger, plan: Plan) -> datetime | None:
    """Returns the next tick of a plan, by the server's clock; None where it is disabled. Raises SettingsInvalid."""
    return next_after(plan.cron, plan.zone, ledger.schedules.now()) if plan.enabled else None
